"""What a client may ask: parsed once, here, into values that can be sent to vLLM and stored in the event log alike."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ingest.events import Identifier, Message, canonical
from serving.gateway.errors import InvalidRequest

Json = dict[str, Any]

# Passed on to vLLM as they are. A parameter that is not listed here is refused rather than dropped in silence: of vLLM's own
# ones, several would change the prompt behind the record's back, jump the queue, or reach other hosts.
_FORWARDED = frozenset(
    "frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n presence_penalty response_format seed "
    "stop stream stream_options temperature top_p tools tool_choice parallel_tool_calls reasoning_effort "
    "top_k min_p repetition_penalty min_tokens stop_token_ids ignore_eos length_penalty bad_words "
    "allowed_token_ids skip_special_tokens include_stop_str_in_output".split()
)
# Of OpenAI's API, without effect on the reply of a model of one's own.
_WITHOUT_EFFECT = frozenset(
    "user store metadata service_tier safety_identifier prompt_cache_key prompt_cache_retention prediction verbosity".split()
)
# What assistant messages carry when a client sends a reply back as it came.
_REPLY_EXTRAS = frozenset({"refusal", "annotations", "reasoning", "reasoning_content"})
_MEDIA = frozenset({"audio", "images"})
_MAX_CANDIDATES = 128
_identifier: TypeAdapter[str] = TypeAdapter(Identifier)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for chat completions that can be recorded."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Json, ...] | None
    stream: bool
    candidates: int
    user: str | None
    purpose: Literal["traffic", "evaluation"]
    parameters: Json  # everything for vLLM but model and messages

    def for_engine(self, adapter: str) -> Json:
        messages = [message.model_dump(mode="json", exclude_none=True) for message in self.messages]
        return {**self.parameters, "model": adapter, "messages": messages}

    def sampling(self) -> dict[str, float | int | str | bool | None]:
        """The sampling parameters as flat values: what is not a scalar stands there as JSON text."""
        apart = {"tools", "stream", "stream_options"}
        return {
            name: value if isinstance(value, float | int | str | bool) else canonical(value).decode()
            for name, value in sorted(self.parameters.items())
            if name not in apart and value is not None
        }


def parse(raw: bytes, headers: Mapping[str, str]) -> Ask:
    """Read a request.

    Raises:
        InvalidRequest: naming the field that is wrong or not supported.
    """
    body = _json_object(raw)
    if unknown := sorted(body.keys() - _FORWARDED - _WITHOUT_EFFECT - {"model", "messages"}):
        raise InvalidRequest(f"The parameter {unknown[0]!r} is not supported.", unknown[0])
    parameters = {name: value for name, value in body.items() if name in _FORWARDED and value is not None}
    return Ask(
        model=_model(body.get("model")),
        messages=tuple(_messages(body.get("messages"))),
        tools=_tools(body.get("tools")),
        stream=_flag(body.get("stream")),
        candidates=_candidates(body.get("n")),
        user=_user(headers.get("x-whetstone-user") or body.get("user")),
        purpose=_purpose(headers.get("x-whetstone-purpose", "traffic")),
        parameters=parameters,
    )


def _json_object(raw: bytes) -> Json:
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
        canonical(body)  # lone surrogates and numbers without end could be neither sent on nor stored
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not valid JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _model(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest("model must name a task, TASK@base or TASK@ADAPTER.", "model")
    return value


def _flag(value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest("stream must be true or false.", "stream")
    return bool(value)


def _candidates(value: Any) -> int:
    if value is None:
        return 1
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_CANDIDATES:
        raise InvalidRequest(f"n must be a whole number from 1 to {_MAX_CANDIDATES}.", "n")
    return value


def _user(value: Any) -> str | None:
    if value is None or value == "":
        return None
    try:
        return _identifier.validate_python(value)
    except ValidationError:
        raise InvalidRequest("user must be text of at most 200 characters without control characters.", "user") from None


def _purpose(value: str) -> Literal["traffic", "evaluation"]:
    match value:
        case "traffic" | "evaluation":
            return value
    raise InvalidRequest("X-Whetstone-Purpose must be traffic or evaluation.", "X-Whetstone-Purpose")


def _tools(value: Any) -> tuple[Json, ...] | None:
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise InvalidRequest("tools must be a list of objects.", "tools")
    return tuple(value)


def _messages(value: Any) -> Iterator[Message]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest("messages must be a list with at least one message.", "messages")
    for index, message in enumerate(value):
        yield _message(message, f"messages[{index}]")


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be an object.", where)
    _only_text(value, where)
    said = {name: part for name, part in value.items() if part is not None and not (name in _REPLY_EXTRAS or part == [])}
    if isinstance(calls := said.get("tool_calls"), list):
        said["tool_calls"] = [_without_index(call) for call in calls]
    try:
        return Message.model_validate(said)
    except ValidationError as error:
        deepest = max(error.errors(), key=lambda one: len(one["loc"]))
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in _without_label(deepest["loc"]))
        raise InvalidRequest(f"{where}{path}: {deepest['msg']}", f"{where}{path}") from None


def _only_text(message: Json, where: str) -> None:
    if media := sorted(name for name in message.keys() & _MEDIA if message[name]):
        raise InvalidRequest(f"{where}: {media[0]} is not supported, only text is.", f"{where}.{media[0]}")
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise InvalidRequest(f"{where}: content of type {kind!r} is not supported, only text is.", f"{where}.content")


def _without_label(location: tuple[int | str, ...]) -> Iterator[int | str]:
    """Without pydantic's name of what a message's content could have been: text, or parts of text."""
    return (part for index, part in enumerate(location) if not (index == 1 and location[0] == "content"))


def _without_index(call: Any) -> Any:
    # Streamed tool calls are numbered; clients that put one together often send the number back.
    return {name: value for name, value in call.items() if name != "index"} if isinstance(call, dict) else call
