"""From a request and what vLLM wrote to the `generation` event that the log keeps."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ingest.events import Candidate, FunctionCall, GenerationEvent, Message, ToolCall, canonical, record_key
from ingest.log import NewRecord
from ingest.redaction import Redactor
from serving.gateway.request import Ask
from serving.gateway.routes import Route
from trainer.tables import BASE

Json = dict[str, Any]


def new_generation_id() -> str:
    """Unique, and sorted by the millisecond in which it was made."""
    return f"gen-{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


@dataclass(slots=True)
class Written:
    """One candidate reply, as far as it was written."""

    content: str = ""
    tool_calls: dict[int, dict[str, str]] = field(default_factory=dict)  # by position: id, name, arguments
    finish_reason: str = "cancelled"

    def add(self, choice: Json) -> None:
        """Add a chunk of a stream, or a whole choice."""
        said = choice.get("delta") or choice.get("message") or {}
        self.content += said.get("content") or ""
        for position, call in enumerate(said.get("tool_calls") or ()):
            self._add_call(call.get("index", position), call)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def candidate(self) -> Candidate:
        calls = tuple(
            ToolCall(id=call["id"] or None, function=FunctionCall(name=call["name"], arguments=call["arguments"]))
            for _, call in sorted(self.tool_calls.items())
        )
        content = self.content if self.content or not calls else None
        return Candidate(
            reply=Message(role="assistant", content=content, tool_calls=calls or None), finish_reason=self.finish_reason
        )

    def _add_call(self, position: int, call: Json) -> None:
        so_far = self.tool_calls.setdefault(position, {"id": "", "name": "", "arguments": ""})
        function = call.get("function") or {}
        so_far["id"] += call.get("id") or ""
        so_far["name"] += function.get("name") or ""
        so_far["arguments"] += function.get("arguments") or ""


class Writing:
    """The candidates of one generation, filled as they are written."""

    def __init__(self, candidates: int) -> None:
        self.started = False
        self.candidates = [Written() for _ in range(candidates)]

    def add(self, choices: list[Json]) -> None:
        """Add what a chunk, or a whole answer, says under `choices`."""
        self.started = True
        for choice in choices:
            self.candidates[choice["index"]].add(choice)


@dataclass(frozen=True, slots=True)
class Identity:
    """What names a reply to the client and in the record alike."""

    generation_id: str
    route: Route
    ask: Ask

    def rewrite(self, answer: Mapping[str, Any]) -> Json:
        """vLLM's answer or chunk, under our id and the name that was asked for."""
        return {**answer, "id": self.generation_id, "model": self.ask.model}

    def headers(self, recorded: bool) -> dict[str, str]:
        headers = {
            "X-Whetstone-Generation": self.generation_id,
            "X-Whetstone-Adapter": self.route.adapter,
            "X-Whetstone-Task": self.route.task,
        }
        return headers if recorded else headers | {"X-Whetstone-Recorded": "no"}


def record(identity: Identity, writing: Writing, model: str, now: datetime, redactor: Redactor) -> NewRecord:
    """The record of a generation, redacted, as ingest would append it.

    Raises:
        CannotRedact: nothing of it may be kept.
    """
    ask, route = identity.ask, identity.route
    asked_and_said = GenerationEvent(
        type="generation",
        event_id=identity.generation_id,
        generation_id=identity.generation_id,
        task=route.task,
        user=ask.user,
        occurred_at=now,
        purpose=ask.purpose,
        prompt=ask.messages,
        tools=ask.tools,
        candidates=tuple(written.candidate() for written in writing.candidates),
        model=model,
        adapter=None if route.adapter == BASE else route.adapter,
        sampling=ask.sampling(),
    )
    event = redactor(asked_and_said)
    return NewRecord(record_key(event).encode(), canonical(event), (("received-at", now.isoformat().encode()),))
