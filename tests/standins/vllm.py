"""A small process that speaks vLLM's API: `python -m tests.standins.vllm`, with vLLM's own flags.

Replies are deterministic and begin with the name of the adapter that wrote them. Shapes and errors are those of vLLM 0.32, which
passes the same suite (tests/e2e/test_engine_contract.py). `STANDIN_TOKEN_S` is the time that each token takes, in seconds;
`STANDIN_START_S` the time to start.
"""

import argparse
import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]
WORDS = "the quick brown fox jumps over a lazy dog while clear rivers run past quiet old green hills".split()
DEFAULT_TOKENS = 16


class Wrong(Exception):
    """An error in vLLM's form."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse(
            {"error": {"message": message, "type": kind, "param": param, "code": status}}, status_code=status
        )


class Standin:
    """One engine: its base models and its adapters, in memory like vLLM's."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.base = flags.served_model_name or [flags.model]
        self.max_rank = flags.max_lora_rank
        self.max_len = flags.max_model_len
        self.token_s = float(os.environ.get("STANDIN_TOKEN_S", "0"))
        self.adapters: dict[str, str] = {}

    def app(self) -> Starlette:
        routes = [
            Route("/health", lambda _request: Response()),
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={Wrong: lambda _request, error: error.response})

    async def models(self, _request: Request) -> Response:
        base = [{"id": name, "object": "model", "owned_by": "vllm", "parent": None} for name in self.base]
        loaded = [
            {"id": name, "object": "model", "owned_by": "vllm", "root": path, "parent": self.base[0]}
            for name, path in self.adapters.items()
        ]
        return JSONResponse({"object": "list", "data": base + loaded})

    async def load(self, request: Request) -> Response:
        asked = await request.json()
        name, path = asked["lora_name"], asked["lora_path"]
        if name in self.adapters:
            raise Wrong(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded. If you want [...]")
        config, weights = Path(path, "adapter_config.json"), Path(path, "adapter_model.safetensors")
        if not (config.exists() and weights.exists()):
            raise Wrong(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for <path>")
        if (rank := json.loads(config.read_text())["r"]) > self.max_rank:
            message = f"LoRA rank {rank} is greater than max_lora_rank {self.max_rank}."
            raise Wrong(500, "InternalServerError", message)
        self.adapters[name] = path
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if name not in self.adapters:
            raise Wrong(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def chat(self, request: Request) -> Response:
        asked = await request.json()
        model = asked.get("model") or self.base[0]
        if model not in self.base and model not in self.adapters:
            message = f"The model `{model}` does not exist. Valid aliases: {', '.join(self.base)}."
            raise Wrong(404, "NotFoundError", message, "model")
        if (asked.get("n") or 1) > 1 and asked.get("temperature") == 0:
            raise Wrong(400, "BadRequestError", f"n must be 1 when using greedy sampling, got {asked['n']}.")
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
        if limit and limit > self.max_len:
            message = f"max_tokens={limit} cannot be greater than max_model_len={self.max_len}."
            raise Wrong(400, "BadRequestError", message, "max_tokens")
        replies = [_tokens(model, asked["messages"], index) for index in range(asked.get("n") or 1)]
        cut = [reply[: limit or DEFAULT_TOKENS] for reply in replies]
        finish = ["length" if len(short) < len(reply) else "stop" for short, reply in zip(cut, replies, strict=True)]
        if asked.get("stream"):
            return StreamingResponse(self._stream(asked, model, cut, finish), media_type="text/event-stream")
        await asyncio.sleep(self.token_s * max(map(len, cut)))
        return JSONResponse(self._answer(asked, model, cut, finish))

    def _answer(self, asked: Json, model: str, replies: list[list[str]], finish: list[str]) -> Json:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(reply), "refusal": None, "reasoning": None},
                "logprobs": None,
                "finish_reason": finish[index],
                "stop_reason": None,
            }
            for index, reply in enumerate(replies)
        ]
        return {**_head(model, "chat.completion"), "choices": choices, "usage": _usage(asked, replies)}

    async def _stream(self, asked: Json, model: str, replies: list[list[str]], finish: list[str]) -> AsyncIterator[bytes]:
        head = _head(model, "chat.completion.chunk")
        for index in range(len(replies)):
            yield _chunk(head, index, {"role": "assistant", "content": ""}, None)
        for position in range(max(map(len, replies))):
            await asyncio.sleep(self.token_s)
            for index, reply in enumerate(replies):
                if position < len(reply):
                    last = position == len(reply) - 1
                    yield _chunk(head, index, {"content": reply[position]}, finish[index] if last else None)
        if (asked.get("stream_options") or {}).get("include_usage"):
            yield _event({**head, "choices": [], "usage": _usage(asked, replies)})
        yield b"data: [DONE]\n\n"


def _tokens(model: str, messages: list[Json], index: int) -> list[str]:
    """A reply as tokens: the adapter's name, the candidate, then words that depend on the prompt."""
    seed = hashlib.sha256(json.dumps([model, messages, index]).encode()).digest()
    return [f"[{model}#{index}]", *(f" {WORDS[byte % len(WORDS)]}" for byte in seed[: 8 + seed[0] % 8])]


def _head(model: str, kind: str) -> Json:
    return {"id": f"chatcmpl-{os.urandom(8).hex()}", "object": kind, "created": int(time.time()), "model": model}


def _usage(asked: Json, replies: list[list[str]]) -> Json:
    prompt, completion = len(json.dumps(asked["messages"])) // 4, sum(map(len, replies))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chunk(head: Json, index: int, delta: Json, finish: str | None) -> bytes:
    return _event({**head, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]})


def _event(content: Json) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", default="model")
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--uds")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-model-len", type=int, default=1024)
    return parser.parse_known_args()[0]  # vLLM's other flags mean nothing here


def main() -> None:
    flags = _flags()
    time.sleep(float(os.environ.get("STANDIN_START_S", "0")))
    where = {"uds": flags.uds} if flags.uds else {"host": flags.host, "port": flags.port}
    uvicorn.run(Standin(flags).app(), **where, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
