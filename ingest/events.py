"""The events: what an app tells Whetstone. One discriminated union on `type`, published as OpenAPI."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from ingest.settings import TaskName

# No control characters: ids are printed, keyed and stored in text columns as they are.
Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,200}$")]
BASE = "base"
"""Stands for the model without an adapter wherever an adapter is named."""


UNDATED = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
"""When what has no time of its own happened, such as a row of an imported file: it never grows too old to be kept."""


class Schema(BaseModel):
    """Immutable, strict about unknown fields and about NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TextPart(Schema):
    """One text part of a message. Images, audio and files are refused: no pair could keep what they were."""

    type: Literal["text"]
    text: str


class FunctionCall(Schema):
    name: str
    arguments: str = Field(description="The arguments as the model wrote them: JSON as text.")


class ToolCall(Schema):
    """A call of a tool by the model."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Schema):
    """One message of a conversation, as in OpenAI's chat API; content is text or text parts."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[TextPart, ...] | None = None
    name: str | None = None
    # APIs answer with an empty list where there are none: the same message must not be two.
    tool_calls: Annotated[tuple[ToolCall, ...] | None, AfterValidator(lambda calls: calls or None)] = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def says_something(self) -> "Message":
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs content or tool_calls")
        return self


def _finite(tool: dict[str, Any]) -> dict[str, Any]:
    json.dumps(tool, allow_nan=False)  # raises ValueError: NaN and infinity have no JSON, and would be kept as null
    return tool


Tool = Annotated[dict[str, Any], AfterValidator(_finite)]
Prompt = Annotated[tuple[Message, ...], Field(min_length=1)] | str


def _of_assistant(reply: Message) -> Message:
    if reply.role != "assistant":
        raise PydanticCustomError("not_assistant", "a reply is a message of the assistant", {"field": "role"})
    return reply


Reply = Annotated[Message, AfterValidator(_of_assistant)] | str


class Candidate(Schema):
    """One reply of a generation."""

    reply: Reply
    finish_reason: str | None = Field(None, description="Why the model stopped: stop, length, tool_calls, cancelled.")


class ReplyRef(Schema):
    """Names one reply: a generation and the index of the candidate in it."""

    generation_id: Identifier
    candidate: int = Field(0, ge=0, le=1_000)


class Generation(Schema):
    """One model request and its candidate replies."""

    generation_id: Identifier = Field(description="The id of the reply: `id` of the gateway's answer.")
    prompt: Prompt
    tools: tuple[Tool, ...] | None = Field(None, description="Tool definitions of the request, OpenAI's form.")
    candidates: tuple[Candidate, ...] = Field(min_length=1, max_length=1_000)
    model: str | None = Field(None, description="The base model.")
    adapter: Tag | None = Field(None, description="The adapter that wrote the replies; absent for the base model.")
    sampling: dict[str, float | int | str | bool | None] = Field(
        default_factory=dict, description="Sampling parameters of the request."
    )


class Envelope(Schema):
    """What every event has."""

    event_id: Identifier = Field(description="Chosen by the client: the same id twice has one effect.")
    task: TaskName = Field(description="The named use of the model.")
    user: Identifier | None = Field(None, description="Opaque id of the end user; never a name or an address.")
    by: Literal["user", "expert", "criterion"] = Field("user", description="Who says so.")
    occurred_at: AwareDatetime = Field(description="When it happened, with a time zone.")
    revision: int | None = Field(None, ge=0, lt=2**53, description="The app's own counter, per user and generation.")
    tags: dict[Tag, Tag] = Field(default_factory=dict, max_length=32, description="Free labels, kept with the event.")


class Feedback(Envelope):
    """An event about a generation, which it may carry whole when the app called a model by itself."""

    generation: Generation | None = None


class GenerationEvent(Envelope, Generation):
    """The gateway's record of a request and its replies."""

    type: Literal["generation"]
    purpose: Literal["traffic", "evaluation"] = Field("traffic", description="Evaluation never becomes a pair.")


class ChoiceEvent(Feedback):
    """Several candidates were shown; one was picked, or it was a tie, or none was good."""

    type: Literal["choice"]
    shown: tuple[ReplyRef, ...] = Field(min_length=2, max_length=100, description="In their order on the screen.")
    picked: ReplyRef | Literal["tie", "none"] = Field(description="One of those shown, or `tie`, or `none` (none good).")

    @model_validator(mode="after")
    def picked_was_shown(self) -> "ChoiceEvent":
        shown = {(ref.generation_id, ref.candidate) for ref in self.shown}
        if len(shown) != len(self.shown):
            raise PydanticCustomError("shown_twice", "shown names a reply twice", {"field": "shown"})
        picked = self.picked
        if isinstance(picked, ReplyRef) and (picked.generation_id, picked.candidate) not in shown:
            raise PydanticCustomError("not_shown", "picked is not among the replies shown", {"field": "picked"})
        return self


class RegenerationEvent(Feedback):
    """This reply was thrown away, and that generation came instead."""

    type: Literal["regeneration"]
    reply: ReplyRef = Field(description="The reply that was thrown away.")
    replacement: Identifier = Field(description="The generation that came instead.")


class AcceptanceEvent(Feedback):
    """This reply was kept: used, copied or sent."""

    type: Literal["acceptance"]
    reply: ReplyRef


class EditEvent(Feedback):
    """The reply as the person saved it."""

    type: Literal["edit"]
    reply: ReplyRef = Field(description="The model's draft that the edit started from.")
    edit_of: Identifier | None = Field(
        None, description="event_id of the earlier edit of this generation that this one started from; its draft counts."
    )
    saved: Reply = Field(description="The text, or assistant message, as saved.")


class ScoreEvent(Feedback):
    """A criterion's value for one reply. Higher is better."""

    type: Literal["score"]
    reply: ReplyRef
    criterion: Identifier
    value: float


class RatingEvent(Feedback):
    """Thumbs up or down."""

    type: Literal["rating"]
    reply: ReplyRef
    thumb: Literal["up", "down"]


class PreferenceEvent(Envelope):
    """A ready pair: static data sets enter by this."""

    type: Literal["preference"]
    prompt: Prompt
    tools: tuple[Tool, ...] | None = None
    chosen: Reply
    rejected: Reply


class ErasureEvent(Envelope):
    """Forget this user."""

    type: Literal["erasure"]
    user: Identifier


Event = Annotated[
    GenerationEvent
    | ChoiceEvent
    | RegenerationEvent
    | AcceptanceEvent
    | EditEvent
    | ScoreEvent
    | RatingEvent
    | PreferenceEvent
    | ErasureEvent,
    Field(discriminator="type"),
]

event_adapter: TypeAdapter[Event] = TypeAdapter(Event)


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: BaseModel | Any) -> bytes:
    """JSON with sorted keys, no spaces, defaults left out, UTF-8: equal values have equal bytes."""
    plain = value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, BaseModel) else value
    return _encoder.encode(plain).encode()


def fingerprint(body: bytes) -> str:
    """SHA-256 in hex of a canonical body; of two bodies under one event id the smaller counts."""
    return hashlib.sha256(body).hexdigest()


def record_key(event: Event) -> str:
    """What the event is about: events of one generation share a partition of the log."""
    match event:
        case GenerationEvent():
            return event.generation_id
        case ChoiceEvent():
            return event.shown[0].generation_id
        case PreferenceEvent():
            return event.event_id
        case ErasureEvent():
            return event.user
        case _:
            return event.reply.generation_id
