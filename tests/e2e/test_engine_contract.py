"""What serving relies on in vLLM. The process that stands in for it in other tests passes the same suite."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.engine import Engine, EngineRefused, EngineUnavailable, NotLoaded
from tests.services import engine as engines
from tests.standins.lora import write_lora

MODEL = Path(__file__).parents[2] / "var/models/smollm2-135m-instruct"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me about rivers."}], "max_tokens": 12, "temperature": 0}
_names = (f"toy-r{number:06d}" for number in itertools.count(1))


@pytest.fixture(scope="module", params=["standin", pytest.param("vllm", marks=pytest.mark.long)])
def socket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("engine") / "vllm.sock"
    with engines.standin(path, token_s=0.01) if request.param == "standin" else engines.vllm(path, MODEL):
        yield path


@pytest.fixture
def lora(socket: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[int], Path]:
    real = request.node.callspec.params["socket"] == "vllm"
    return lambda seed: write_lora(tmp_path / str(seed), seed, MODEL if real else None)


def with_engine(socket: Path, story: Callable[[Engine], Awaitable[None]]) -> None:
    async def run() -> None:
        engine = Engine(f"unix://{socket}", timeout_s=60)
        try:
            await story(engine)
        finally:
            await engine.close()

    asyncio.run(run())


async def text(engine: Engine, model: str) -> str:
    return str((await engine.chat({**HELLO, "model": model}))["choices"][0]["message"]["content"])


def test_an_adapter_answers_under_its_own_name_from_its_loading_to_its_unloading(
    socket: Path, lora: Callable[[int], Path]
) -> None:
    async def story(engine: Engine) -> None:
        one, two = next(_names), next(_names)
        assert await engine.healthy()
        with pytest.raises(NotLoaded):
            await engine.chat({**HELLO, "model": one})
        await engine.load(one, lora(1))
        await engine.load(two, lora(2))
        assert {"base", one, two} <= await engine.models()
        assert len({await text(engine, "base"), await text(engine, one), await text(engine, two)}) == 3
        await engine.unload(one)
        await engine.unload(one)
        assert one not in await engine.models()
        with pytest.raises(NotLoaded):
            await anext(engine.stream({**HELLO, "model": one, "stream": True}))
        await engine.unload(two)

    with_engine(socket, story)


def test_loading_what_is_loaded_changes_nothing(socket: Path, lora: Callable[[int], Path]) -> None:
    async def story(engine: Engine) -> None:
        name, path = next(_names), lora(1)
        await engine.load(name, path)
        before = await text(engine, name)
        await engine.load(name, path)
        assert await text(engine, name) == before
        await engine.unload(name)

    with_engine(socket, story)


def test_a_directory_without_an_adapter_is_refused(socket: Path, tmp_path: Path) -> None:
    async def story(engine: Engine) -> None:
        with pytest.raises(EngineRefused, match="No adapter found"):
            await engine.load(next(_names), tmp_path)
        assert await engine.healthy()

    with_engine(socket, story)


def test_the_answer_names_the_adapter_that_wrote_it(socket: Path, lora: Callable[[int], Path]) -> None:
    async def story(engine: Engine) -> None:
        name = next(_names)
        await engine.load(name, lora(1))
        assert (await engine.chat({**HELLO, "model": name}))["model"] == name
        assert {chunk["model"] async for chunk in engine.stream({**HELLO, "model": name, "stream": True})} == {name}
        await engine.unload(name)

    with_engine(socket, story)


def test_a_stream_says_what_the_whole_answer_says(socket: Path) -> None:
    async def story(engine: Engine) -> None:
        whole = (await engine.chat({**HELLO, "model": "base"}))["choices"][0]
        streamed, finish = "", None
        async for chunk in engine.stream({**HELLO, "model": "base", "stream": True}):
            streamed += chunk["choices"][0]["delta"].get("content") or ""
            finish = chunk["choices"][0]["finish_reason"] or finish
        assert (streamed, finish) == (whole["message"]["content"], whole["finish_reason"])

    with_engine(socket, story)


def test_candidates_come_by_their_index_with_usage_at_the_end(socket: Path) -> None:
    async def story(engine: Engine) -> None:
        body = {**HELLO, "model": "base", "n": 3, "temperature": 0.7}
        assert [choice["index"] for choice in (await engine.chat(body))["choices"]] == [0, 1, 2]
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        chunks = [chunk async for chunk in engine.stream(streamed)]
        assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1, 2}
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] > 0

    with_engine(socket, story)


@pytest.mark.parametrize("wrong", [{"n": 2}, {"max_tokens": 100_000}])
def test_a_wrong_request_is_refused_before_anything_streams(socket: Path, wrong: dict[str, Any]) -> None:
    async def story(engine: Engine) -> None:
        with pytest.raises(EngineRefused) as refusal:
            await anext(engine.stream({**HELLO, "model": "base", "stream": True, **wrong}))
        assert refusal.value.status == 400

    with_engine(socket, story)


def test_a_request_that_is_being_answered_is_finished_by_its_adapter_after_the_unloading(
    socket: Path, lora: Callable[[int], Path]
) -> None:
    async def story(engine: Engine) -> None:
        name = next(_names)
        await engine.load(name, lora(1))
        before = await text(engine, name)
        chunks = engine.stream({**HELLO, "model": name, "stream": True})
        said = [await anext(chunks)]
        await engine.unload(name)
        said += [chunk async for chunk in chunks]
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in said) == before

    with_engine(socket, story)


def test_an_engine_that_is_away_is_unavailable(tmp_path: Path) -> None:
    async def story(engine: Engine) -> None:
        assert not await engine.healthy()
        for call in (engine.models(), engine.chat({**HELLO, "model": "base"}), anext(engine.stream({**HELLO, "model": "base"}))):
            with pytest.raises(EngineUnavailable):
                await call

    with_engine(tmp_path / "nothing.sock", story)
