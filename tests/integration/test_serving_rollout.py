"""Traffic moves between adapters while requests go on: gateway, rollout loop and stand-in as processes, the real client."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest

from tests.services.serving import Installation, Traffic, end, eventually

QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installation(tmp_path, stack)


def loaded(installation: Installation) -> set[str]:
    answer = installation.get("/v1/models")
    return {model["id"].partition("@")[2] for model in answer.json()["data"]} - {"", "base"} if answer.is_success else set()


def writer(installation: Installation, model: str = "summarise") -> str:
    raw = installation.client().chat.completions.with_raw_response.create(model=model, messages=QUESTION)
    text = raw.parse().choices[0].message.content
    assert text.startswith(f"[{raw.headers['X-Whetstone-Adapter']}#0]")
    return raw.headers["X-Whetstone-Adapter"]


def test_no_request_fails_or_stalls_during_three_swaps_and_each_is_written_by_the_adapter_in_its_header(
    installation: Installation,
) -> None:
    names = [installation.seal(number) for number in (1, 2, 3)]
    with installation.engine(token_s=0.01), installation.gateway(), installation.rollout(), Traffic(installation) as traffic:
        for name in names:
            installation.swap(name)
            time.sleep(0.3)
        eventually(lambda: loaded(installation) == {names[1], names[2]})
    assert traffic.errors == []
    assert all(text.startswith(f"[{header}#0]") for header, text, _ in traffic.replies)
    assert {header for header, _, _ in traffic.replies} == {"base", *names}
    assert traffic.slowest_first_byte_s < 2
    recorded = installation.generations()
    assert {generation: recorded[generation].adapter or "base" for _, _, generation in traffic.replies} == {
        generation: header for header, _, generation in traffic.replies
    }


def test_a_candidate_is_loaded_for_judging_and_gets_no_traffic(installation: Installation) -> None:
    candidate = installation.seal(1, wanted=True)
    with installation.engine(), installation.gateway(), installation.rollout():
        eventually(lambda: loaded(installation) == {candidate})
        assert writer(installation) == "base"
        assert writer(installation, f"summarise@{candidate}") == candidate


def test_after_vllm_is_killed_requests_wait_for_the_live_adapter_and_never_get_the_base_model(installation: Installation) -> None:
    live = installation.seal(1)
    with installation.gateway(), installation.rollout() as rollout:
        with installation.engine() as engine:
            installation.swap(live)
            assert writer(installation) == live
            os.kill(rollout.pid, signal.SIGSTOP)  # so that nothing is loaded again before we have asked
            os.killpg(engine, signal.SIGKILL)
        with installation.engine():
            for _ in range(3):
                with pytest.raises(openai.InternalServerError) as error:
                    writer(installation)
                assert error.value.status_code == 503
                assert int(error.value.response.headers["Retry-After"]) > 0
            assert writer(installation, "summarise@base") == "base"
            os.kill(rollout.pid, signal.SIGCONT)
            started = time.monotonic()
            eventually(lambda: loaded(installation) == {live})
            assert writer(installation) == live
            assert time.monotonic() - started < 5


def test_clients_that_try_again_see_only_the_live_adapter_while_vllm_restarts(installation: Installation) -> None:
    live = installation.seal(1)
    with installation.gateway(), installation.rollout():
        with installation.engine(token_s=0.01) as engine:
            installation.swap(live)
            with Traffic(installation, clients=4) as traffic:
                time.sleep(0.3)
                os.killpg(engine, signal.SIGKILL)
                with installation.engine(token_s=0.01):
                    before = len(traffic.replies)
                    eventually(lambda: len(traffic.replies) > before + 10)
    assert {header for header, _, _ in traffic.replies} == {live}
    assert {text.partition("#")[0] for _, text, _ in traffic.replies} == {f"[{live}"}


def test_a_rollback_moves_traffic_back_without_loading_anything(installation: Installation) -> None:
    first, second = installation.seal(1), installation.seal(2)
    with installation.engine(), installation.gateway(), installation.rollout():
        installation.swap(first)
        installation.swap(second)
        for path in (installation.directory / "adapters" / first).iterdir():
            path.unlink()  # it could not be loaded again
        done = installation.run("rollback", "summarise", "--by", "mia", "--json")
        assert (done.returncode, json.loads(done.stdout)["adapter"]) == (0, first)
        eventually(lambda: writer(installation) == first)
        assert installation.run("rollback", "summarise").returncode == 0
        eventually(lambda: writer(installation) == "base")
        nothing_left = installation.run("rollback", "summarise")
        assert nothing_left.returncode == 1
        assert "base model answers" in nothing_left.stderr
    assert [row["state"] for row in json.loads(installation.run("list", "--json").stdout)] == ["sealed", "sealed"]


def test_a_person_promotes_an_adapter_by_name(installation: Installation) -> None:
    name = installation.seal(1)
    with installation.engine(), installation.gateway(), installation.rollout():
        assert "answers summarise" in installation.run("promote", name, "--by", "mia").stdout
        eventually(lambda: writer(installation) == name)
        assert name in installation.run("list").stdout
        unknown = installation.run("promote", "summarise-r000099")
        assert (unknown.returncode, "adapters list" in unknown.stderr) == (1, True)


def test_a_promotion_that_nobody_carries_out_says_so_and_stays_wanted(installation: Installation) -> None:
    name = installation.seal(1)
    waited = installation.run("promote", name, "--timeout-s", "0.3")
    assert waited.returncode == 1
    assert "stays" in waited.stderr
    with installation.engine(), installation.gateway(), installation.rollout():
        eventually(lambda: writer(installation) == name)


def test_a_changed_adapter_is_neither_promoted_nor_loaded_and_holds_no_other_up(installation: Installation) -> None:
    changed, sound = installation.seal(1), installation.seal(2)
    weights = installation.directory / "adapters" / changed / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    refused = installation.run("promote", changed)
    assert refused.returncode == 1
    installation.release(changed)
    with installation.engine(), installation.gateway(), installation.rollout():
        time.sleep(0.5)
        assert writer(installation) == "base"
        installation.swap(sound)
        assert writer(installation) == sound


def test_an_adapter_with_a_request_on_it_stays_loaded_until_that_is_finished(installation: Installation) -> None:
    names = [installation.seal(number) for number in (1, 2, 3)]
    with installation.engine(token_s=0.2), installation.gateway(), installation.rollout():
        installation.swap(names[0])
        stream = installation.client().chat.completions.create(model="summarise", messages=QUESTION, stream=True)
        chunks = iter(stream)
        next(chunks)
        installation.swap(names[1])
        installation.swap(names[2])
        assert names[0] in loaded(installation)
        assert list(chunks)[-1].choices[0].finish_reason == "stop"
        eventually(lambda: loaded(installation) == {names[1], names[2]})


def test_a_killed_rollout_goes_on_where_it_was_and_two_do_not_meet(installation: Installation) -> None:
    first, second = installation.seal(1), installation.seal(2)
    with installation.engine(), installation.gateway():
        with installation.rollout() as killed, ExitStack() as later:
            installation.swap(first)
            later.enter_context(installation.rollout())  # stands by while the first one lives
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
            installation.swap(second)
            assert writer(installation) == second


def test_gateway_and_rollout_end_cleanly_on_sigterm(installation: Installation) -> None:
    with installation.engine(), installation.gateway() as gateway, installation.rollout() as rollout:
        installation.swap(installation.seal(1))
        for process in (gateway, rollout):
            end(process)
            assert process.returncode in (0, -signal.SIGTERM)  # uvicorn ends by the signal, once it has cleaned up
    assert installation.routes() == []
    with pytest.raises(httpx.ConnectError):
        installation.get("/healthz")
