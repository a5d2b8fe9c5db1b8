"""The one door to vLLM: its OpenAI API and its adapter routes, over a Unix socket or HTTP."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

Json = dict[str, Any]
# vLLM closes idle connections after 5 s; a connection that it is just closing would fail a request for nothing.
_KEEPALIVE_S = 2
_ADMIN_TIMEOUT_S = 120


class EngineError(Exception):
    """vLLM did not do what was asked."""


class EngineUnavailable(EngineError):
    """vLLM is not there, is starting, or broke off: try again."""


class NotLoaded(EngineError):
    """vLLM has no adapter of this name now."""


@dataclass(eq=False)
class EngineRefused(EngineError):
    """vLLM will never accept this request as it is."""

    status: int
    message: str
    param: str | None = None

    def __str__(self) -> str:
        return self.message


class Engine:
    """A client of one vLLM. Every method raises EngineUnavailable while vLLM is away."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """`url` is http://HOST:PORT or unix:///PATH; `timeout_s` bounds the wait for the next bytes of a reply."""
        socket = url.removeprefix("unix://") if url.startswith("unix://") else None
        self._client = httpx.AsyncClient(
            base_url="http://vllm" if socket else url,
            transport=httpx.AsyncHTTPTransport(
                uds=socket,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_KEEPALIVE_S),
            ),
            timeout=httpx.Timeout(timeout_s, connect=5, pool=None),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def healthy(self) -> bool:
        """True when vLLM answers and its engine is alive."""
        try:
            return (await self._client.get("/health", timeout=5)).is_success
        except httpx.TransportError:
            return False

    async def models(self) -> frozenset[str]:
        """Names of the base model and of every adapter loaded now."""
        answer = await self._call("GET", "/v1/models", timeout=5)
        return frozenset(model["id"] for model in answer.json()["data"])

    async def load(self, name: str, path: Path) -> None:
        """Load a sealed adapter under its own name; one that is loaded already stays as it is.

        Raises:
            EngineRefused: vLLM cannot use what is in `path`.
        """
        try:
            await self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, _ADMIN_TIMEOUT_S)
        except NotLoaded as error:
            raise EngineRefused(404, str(error)) from error  # 404 here means the directory, not the name
        except EngineRefused as refusal:
            if "already been loaded" not in refusal.message:
                raise

    async def unload(self, name: str) -> None:
        """Forget an adapter; requests already in vLLM finish with it. One that is not loaded is no error."""
        try:
            await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, _ADMIN_TIMEOUT_S)
        except NotLoaded:
            return

    async def chat(self, body: Mapping[str, Any]) -> Json:
        """A chat completion as vLLM answers it.

        Raises:
            NotLoaded: there is no adapter of the name in `body["model"]`.
            EngineRefused: vLLM found the request wrong.
        """
        answer: Json = (await self._call("POST", "/v1/chat/completions", body)).json()
        return answer

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Json, None]:
        """The chunks of a streamed chat completion as they come, without the final `[DONE]`. Raises as `chat` does.

        Closing it early ends the request in vLLM too. A stream that breaks off before `[DONE]` raises EngineUnavailable.
        """
        try:
            async with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.is_error:
                    await answer.aread()
                    _raise(answer)
                async for chunk in _chunks(answer):
                    yield chunk
        except httpx.TransportError as error:
            raise EngineUnavailable(f"vLLM broke off: {type(error).__name__}") from error

    async def _call(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> httpx.Response:
        try:
            request = self._client.build_request(method, path, json=body, timeout=timeout or self._client.timeout)
            answer = await self._client.send(request)
        except httpx.TransportError as error:
            raise EngineUnavailable(f"vLLM does not answer: {type(error).__name__}") from error
        if answer.is_error:
            _raise(answer)
        return answer


async def _chunks(answer: httpx.Response) -> AsyncIterator[Json]:
    # Not aiter_lines: it also cuts at U+2028 and its like, which stand raw inside vLLM's JSON.
    waiting = b""
    async for received in answer.aiter_bytes():
        *events, waiting = (waiting + received).split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                return
            if event.startswith(b"data: "):
                yield _chunk(event.removeprefix(b"data: "))
    raise EngineUnavailable("vLLM ended the stream early")


def _chunk(data: bytes) -> Json:
    chunk: Json = json.loads(data)
    if "error" in chunk:
        raise EngineUnavailable(f"vLLM broke off: {chunk['error'].get('type')}")
    return chunk


def _raise(answer: httpx.Response) -> None:
    try:
        error = answer.json()["error"]
        message, param = str(error["message"]), error.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, param = f"vLLM answered {answer.status_code}", None
    if answer.status_code >= 500:
        raise EngineUnavailable(message)
    if answer.status_code == 404:
        raise NotLoaded(message)
    raise EngineRefused(answer.status_code, message, param)
