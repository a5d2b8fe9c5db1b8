"""The app that the simulated people use: any OpenAI client for replies, one HTTP endpoint for feedback."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from openai import APIStatusError, AsyncOpenAI, OpenAIError

from deploy.demo.judgement import Reply

TEMPERATURE = 0.7
MAX_TOKENS = 96
"""Room for twice the words that any prompt allows."""
_ATTEMPTS = 30
_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request."""

    generation_id: str
    prompt: str
    replies: tuple[Reply, ...]


class NoAnswer(Exception):
    """The request failed; it is counted, and the person goes on with something else."""


def report(what: str, **figures: Any) -> None:
    """One line of JSON to whoever watches."""
    sys.stdout.write(json.dumps({"what": what, "at": datetime.now(UTC).isoformat(), **figures}) + "\n")
    sys.stdout.flush()


class App:
    """One application with one key, whoever uses it. Shows `stream_share` of its single replies word by word."""

    def __init__(self, client: AsyncOpenAI, http: httpx.AsyncClient, task: str, stream_share: float) -> None:
        self._client = client
        self._http = http
        self._task = task
        self.stream_share = stream_share

    async def ask(self, user: str, prompt: str, n: int = 1) -> Answer:
        """`n` replies to the prompt, all at once.

        Raises:
            NoAnswer: an error status or a broken connection.
        """
        started = time.monotonic()
        try:
            raw = await self._client.chat.completions.with_raw_response.create(**self._request(user, prompt), n=n)
            completion = raw.parse()
        except OpenAIError as error:
            raise await _failed(error) from error
        _answered(raw.headers, completion.id, started)
        replies = (Reply(c.message.content or "", c.finish_reason == "length") for c in completion.choices)
        return Answer(completion.id, prompt, tuple(replies))

    async def ask_streaming(self, user: str, prompt: str) -> Answer:
        """One reply, word by word.

        Raises:
            NoAnswer: an error status, a broken connection, or a reply that ends before its end.
        """
        started, first, text, finish, generation_id = time.monotonic(), None, "", None, ""
        try:
            raw = await self._client.chat.completions.with_raw_response.create(**self._request(user, prompt), stream=True)
            async for chunk in raw.parse():
                generation_id = chunk.id
                for choice in chunk.choices:
                    first = first or time.monotonic()
                    text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
        except OpenAIError as error:
            raise await _failed(error) from error
        if finish is None:
            raise await _failed(None)
        _answered(raw.headers, generation_id, started, first)
        return Answer(generation_id, prompt, (Reply(text, finish == "length"),))

    async def send(self, user: str, kind: str, **fields: Any) -> None:
        """Send one feedback event until it is accepted: the same `event_id` again has no second effect."""
        event = {
            "type": kind,
            "event_id": str(uuid.uuid4()),
            "task": self._task,
            "user": user,
            "occurred_at": datetime.now(UTC).isoformat(),
            **fields,
        }
        status = None
        for _ in range(_ATTEMPTS):
            status, pause_s = await self._post(event)
            if status == httpx.codes.ACCEPTED:
                return report("feedback", type=kind)
            if status and status < 500:
                break  # never valid, however often it is sent
            await asyncio.sleep(pause_s)
        report("feedback_lost", type=kind, status=status)

    async def _post(self, event: Mapping[str, Any]) -> tuple[int | None, float]:
        """The status, if there is one, and how long to wait before another attempt."""
        try:
            answer = await self._http.post("/v1/feedback", json=event)
        except httpx.TransportError:
            return None, _RETRY_S
        return answer.status_code, _pause_s(answer.headers)

    def _request(self, user: str, prompt: str) -> dict[str, Any]:
        return {
            "model": self._task,
            "messages": [{"role": "user", "content": prompt}],
            "user": user,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
        }


def _answered(headers: Mapping[str, str], generation_id: str, started: float, first: float | None = None) -> None:
    report(
        "request",
        generation_id=generation_id,
        adapter=headers.get("x-whetstone-adapter"),
        seconds=time.monotonic() - started,
        first_token_s=first - started if first else None,
    )


async def _failed(error: OpenAIError | None) -> NoAnswer:
    """Counts the failure and waits as long as the service asks."""
    response = error.response if isinstance(error, APIStatusError) else None
    report("failed", error=type(error).__name__, status=response.status_code if response else None)
    await asyncio.sleep(_pause_s(response.headers if response else {}))
    return NoAnswer()


def _pause_s(headers: Mapping[str, str]) -> float:
    asked = headers.get("retry-after", "")
    return float(asked) if asked.isdigit() else _RETRY_S
