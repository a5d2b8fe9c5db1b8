"""The gateway as apps meet it: the real OpenAI client, a gateway process, and the stand-in behind it."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest

from ingest.events import GenerationEvent
from tests.services.serving import Installation, end, eventually

QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A gateway over an engine that takes its time for every token; no release yet, so the base model answers."""
    with ExitStack() as stack:
        installation = Installation(tmp_path_factory.mktemp("gateway"), stack, gateway_settings="max_request_bytes = 100_000")
        stack.enter_context(installation.engine(token_s=0.02))
        stack.enter_context(installation.gateway())
        yield installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installation(tmp_path, stack)


def logged(installation: Installation, generation: str) -> GenerationEvent:
    eventually(lambda: generation in installation.generations())
    return installation.generations()[generation]


def test_a_reply_says_who_wrote_it_and_is_recorded_under_its_id(running: Installation) -> None:
    raw = running.client().chat.completions.with_raw_response.create(
        model="summarise", messages=QUESTION, n=2, temperature=0.7, user="u-17"
    )
    reply = raw.parse()
    assert raw.headers["X-Whetstone-Adapter"] == "base"
    assert raw.headers["X-Whetstone-Task"] == "summarise"
    assert raw.headers["X-Whetstone-Generation"] == reply.id
    assert reply.model == "summarise"
    event = logged(running, reply.id)
    assert [candidate.reply.content for candidate in event.candidates] == [choice.message.content for choice in reply.choices]
    assert (event.event_id, event.task, event.user, event.adapter, event.purpose) == (
        reply.id,
        "summarise",
        "u-17",
        None,
        "traffic",
    )
    assert event.sampling == {"n": 2, "temperature": 0.7}
    assert event.prompt[0].content == QUESTION[0]["content"]


def test_what_a_task_redacts_reaches_the_model_and_no_file(installation: Installation) -> None:
    with (installation.directory / "whetstone.toml").open("a") as settings:
        settings.write('[tasks.summarise.redaction]\nkinds = ["email"]\n')
        settings.write('[tasks.other.redaction]\nfunction = "tests.unit.ingest.test_redaction:fail"\n')
    asked = [{"role": "user", "content": "Write to jane.doe@mail.example now."}]
    with installation.engine(), installation.gateway() as gateway:
        create = installation.client().chat.completions.with_raw_response.create
        kept = create(model="summarise", messages=asked, stream=False)
        assert logged(installation, kept.headers["X-Whetstone-Generation"]).prompt[0].content == "Write to [email] now."
        lost = create(model="other", messages=asked)
        assert lost.parse().choices
        assert lost.headers["X-Whetstone-Recorded"] == "no"
        end(gateway)
    files = [path for path in installation.directory.rglob("*") if path.is_file()]
    assert not [path.name for path in files if b"jane.doe@mail.example" in path.read_bytes()]


def test_a_stream_comes_as_it_is_written_and_is_recorded_whole(running: Installation) -> None:
    started, first_at, said, ids = time.monotonic(), None, "", set()
    with running.client().chat.completions.create(model="summarise", messages=QUESTION, stream=True) as stream:
        for chunk in stream:
            first_at = first_at or time.monotonic()
            ids.add((chunk.id, chunk.model))
            said += chunk.choices[0].delta.content or ""
    took, waited = time.monotonic() - started, (first_at or 0) - started
    assert waited < took / 2
    ((generation, model),) = ids
    assert model == "summarise"
    event = logged(running, generation)
    assert event.candidates[0].reply.content == said
    assert event.candidates[0].finish_reason == "stop"


def test_a_cancelled_stream_is_recorded_as_far_as_it_was_sent(running: Installation) -> None:
    stream = running.client().chat.completions.create(model="summarise", messages=QUESTION, stream=True)
    chunks = iter(stream)
    seen = [next(chunks) for _ in range(3)]
    stream.close()
    event = logged(running, seen[0].id)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in seen)
    assert event.candidates[0].finish_reason == "cancelled"
    assert event.candidates[0].reply.content.startswith(said)
    whole = running.client().chat.completions.create(model="summarise", messages=QUESTION).choices[0].message.content
    assert len(event.candidates[0].reply.content) < len(whole)
    eventually(lambda: 'whetstone_gateway_in_flight{adapter="base"} 0.0' in running.get("/metrics").text)


def test_an_evaluation_is_recorded_as_one_and_needs_the_scope_admin(running: Installation) -> None:
    marked = {"X-Whetstone-Purpose": "evaluation"}
    reply = running.client().chat.completions.create(model="summarise@base", messages=QUESTION, extra_headers=marked)
    assert logged(running, reply.id).purpose == "evaluation"
    app = running.client(running.new_key(["*"], ["inference"]))
    with pytest.raises(openai.PermissionDeniedError, match="admin"):
        app.chat.completions.create(model="summarise", messages=QUESTION, extra_headers=marked)


def test_a_key_opens_its_own_tasks_only(running: Installation) -> None:
    key = running.new_key(["other"], ["inference"])
    app = running.client(key)
    assert app.chat.completions.create(model="other", messages=QUESTION).choices
    assert [model.id for model in app.models.list()] == ["other", "other@base"]
    with pytest.raises(openai.PermissionDeniedError):
        app.chat.completions.create(model="summarise", messages=QUESTION)
    with pytest.raises(openai.AuthenticationError):
        running.client("wsk_wrong").chat.completions.create(model="other", messages=QUESTION)
    with pytest.raises(openai.PermissionDeniedError):
        running.client(running.new_key(["*"], ["feedback"])).chat.completions.create(model="other", messages=QUESTION)
    assert running.get("/metrics", key).status_code == 403


def test_an_unknown_task_gets_the_tasks_that_there_are(running: Installation) -> None:
    with pytest.raises(openai.NotFoundError, match="Tasks: other, summarise") as error:
        running.client().chat.completions.create(model="gpt-4", messages=QUESTION)
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="no adapter"):
        running.client().chat.completions.create(model="summarise@summarise-r000099", messages=QUESTION)


def test_what_vllm_finds_wrong_the_client_is_told(running: Installation) -> None:
    for streaming in (False, True):
        with pytest.raises(openai.BadRequestError, match="max_model_len"):
            running.client().chat.completions.create(model="summarise", messages=QUESTION, max_tokens=9_999, stream=streaming)


def test_browsers_of_other_sites_and_long_bodies_are_refused(running: Installation) -> None:
    url, head = f"{running.url}/v1/chat/completions", {"Authorization": f"Bearer {running.key}"}
    body = {"model": "summarise", "messages": QUESTION}
    assert httpx.post(url, json=body, headers={**head, "Origin": "https://evil.example"}).status_code == 403
    assert httpx.post(url, json=body, headers={**head, "Host": "evil.example"}).status_code == 400
    assert httpx.post(url, content=json.dumps(body), headers={**head, "Content-Type": "text/plain"}).status_code == 415
    assert httpx.post(url, json={**body, "pad": "x" * 200_000}, headers=head).status_code == 413
    assert httpx.get(f"{running.url}/nothing", headers=head).json()["error"]["type"] == "invalid_request_error"


def test_many_streams_at_once_all_come_whole(running: Installation) -> None:
    client, said = running.client(), []

    def ask(number: int) -> None:
        question = [{"role": "user", "content": f"Question {number}?"}]
        stream = client.chat.completions.create(model="summarise", messages=question, stream=True)
        said.append("".join(chunk.choices[0].delta.content or "" for chunk in stream))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(120)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 120
    assert all(text.startswith("[base#0]") for text in said)


def test_a_gateway_killed_after_its_replies_still_has_them_in_the_log_after_the_restart(installation: Installation) -> None:
    held = installation.directory / "log.db"
    held.mkdir()  # no log can be opened here: everything waits in the spool
    with installation.engine():
        with installation.gateway() as killed:
            replies = [installation.client().chat.completions.create(model="summarise", messages=QUESTION).id for _ in range(5)]
            os.killpg(killed.pid, signal.SIGKILL)
            killed.wait()
        held.rmdir()
        with installation.gateway():
            eventually(lambda: set(replies) <= installation.generations().keys())


def test_without_a_log_the_gateway_answers_all_the_same(installation: Installation) -> None:
    (installation.directory / "log.db").mkdir()
    with installation.engine(), installation.gateway() as gateway:
        assert installation.client().chat.completions.create(model="summarise", messages=QUESTION).choices
        end(gateway)
    assert list((installation.directory / "spool").glob("*.db"))


def test_without_vllm_requests_are_told_to_come_back(installation: Installation) -> None:
    with installation.gateway():
        for streaming in (False, True):
            with pytest.raises(openai.APIStatusError) as error:
                installation.client().chat.completions.create(model="summarise", messages=QUESTION, stream=streaming)
            assert error.value.status_code == 503
            assert int(error.value.response.headers["Retry-After"]) > 0
        assert installation.get("/readyz").status_code == 503
        assert installation.get("/v1/models").status_code == 503
        with installation.engine():
            assert installation.get("/readyz").status_code == 200
            assert installation.client().chat.completions.create(model="summarise", messages=QUESTION).choices


def test_a_stream_that_vllm_breaks_off_ends_with_an_error_and_is_recorded_so_far(installation: Installation) -> None:
    with installation.gateway():
        with installation.engine(token_s=0.1) as engine:
            chunks = iter(installation.client().chat.completions.create(model="summarise", messages=QUESTION, stream=True))
            first, *_ = [next(chunks) for _ in range(3)]
            os.killpg(engine, signal.SIGKILL)
            with pytest.raises(openai.APIError, match="broke off"):
                list(chunks)
        assert logged(installation, first.id).candidates[0].finish_reason == "cancelled"


def test_a_reply_being_streamed_when_the_gateway_is_told_to_stop_is_finished(installation: Installation) -> None:
    with installation.engine(token_s=0.1), installation.gateway() as gateway:
        chunks = iter(installation.client().chat.completions.create(model="summarise", messages=QUESTION, stream=True))
        first = next(chunks)
        gateway.send_signal(signal.SIGTERM)
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
        gateway.wait(10)
    assert first.id in installation.generations()
    assert not list((installation.directory / "spool").iterdir())
