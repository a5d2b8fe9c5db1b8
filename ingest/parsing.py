"""From the bytes of a request to events: the only place that meets what a client really sent."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Annotated, Any

from pydantic import Field, ValidationError

from ingest.events import Event, Schema, event_adapter
from ingest.problems import FieldError, Problem

CLOCK_SKEW = timedelta(minutes=10)
"""How far ahead of ours an app's clock may be. Nothing after ingest looks at a clock to judge an event."""
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

_MOST_ERRORS = 50
_ONLY_TEXT = "Only text is supported here: images, audio and files are refused."
_MEDIA = frozenset({"audio", "file", "image", "image_url", "images", "input_audio", "video", "video_url"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")


class Batch(Schema):
    """Several events, accepted all or none."""

    events: Annotated[tuple[Event, ...], Field(min_length=1, description="In any order; each stands for itself.")]


def parse_event(body: bytes) -> Event:
    """Read one event.

    Raises:
        Problem: 400, not JSON; 422, naming each wrong field.
    """
    try:
        return event_adapter.validate_json(body)
    except ValidationError as error:
        raise _problem(error, tag_at=0) from None


def parse_batch(body: bytes, max_events: int) -> tuple[Event, ...]:
    """Read `{"events": [...]}`.

    Raises:
        Problem: 400, not JSON; 422, naming each wrong field, or more than `max_events`.
    """
    try:
        events = Batch.model_validate_json(body).events
    except ValidationError as error:
        raise _problem(error, tag_at=2) from None
    if len(events) > max_events:
        raise invalid([{"field": "events", "message": f"At most {max_events} events in one request: send several."}])
    return events


def check_times(events: Sequence[Event], prefixes: Sequence[str], now: datetime) -> None:
    """Refuse events from the future, beyond what clocks differ, and from before there were such apps.

    Raises:
        Problem: 422, naming each wrong field.
    """
    errors: list[FieldError] = [
        {"field": f"{prefix}occurred_at", "message": "Must be after 1970 and not in the future. Is the app's clock right?"}
        for event, prefix in zip(events, prefixes, strict=True)
        if not EARLIEST <= event.occurred_at <= now + CLOCK_SKEW
    ]
    if errors:
        raise invalid(errors)


def invalid(errors: Iterable[FieldError]) -> Problem:
    """The problem of a body whose fields are wrong."""
    detail = "Correct the fields that `errors` names, and send the request again. GET /openapi.json describes them."
    return Problem(422, "Invalid event", detail, errors=list(islice(errors, _MOST_ERRORS)))


def _problem(error: ValidationError, tag_at: int) -> Problem:
    found: list[Any] = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return Problem(400, "Not JSON", f"The body cannot be read: {found[0]['ctx']['error']}. Send JSON in UTF-8.")
    at = _without_their_details([(_path(one, tag_at), _message(one)) for one in found])
    # A wrong member of a union, or of a list, is also reported as a wrong whole: only the deepest helps.
    wholes = {path[:depth] for path, _ in at for depth in range(len(path))}
    deepest = dict.fromkeys((path, message) for path, message in at if path not in wholes)
    return invalid({"field": ".".join(path) or "body", "message": message} for path, message in deepest)


def _without_their_details(at: Sequence[tuple[tuple[str, ...], str]]) -> list[tuple[tuple[str, ...], str]]:
    """Without what else is wrong with an image, a sound or a file as a part of text."""
    refused = {path for path, message in at if message == _ONLY_TEXT}
    return [one for one in at if not any(one[0][:depth] in refused for depth in range(len(one[0])))]


def _path(error: Any, tag_at: int) -> tuple[str, ...]:
    """Names of our own fields and indexes. pydantic's labels of union members, and keys that a user chose, are left out."""
    location = [part for index, part in enumerate(error["loc"]) if index != tag_at]
    path = [str(part) for part in location if isinstance(part, int) or part in _field_names()]
    if _is_no_text_part(error):
        path.pop()  # the part is wrong, and not only the name of its type
    if error["type"] == "extra_forbidden" and _NAME.fullmatch(str(location[-1])):
        path.append(str(location[-1]))
    if error["type"].startswith("union_tag"):
        path.append("type")
    if "field" in error.get("ctx", {}):
        path.append(error["ctx"]["field"])
    return tuple(path)


def _message(error: Any) -> str:
    if error["type"].startswith("union_tag"):  # pydantic's own message quotes the value
        return f"Must be one of {', '.join(_types())}."
    if _is_no_text_part(error) or (error["type"] == "extra_forbidden" and error["loc"][-1] in _MEDIA):
        return _ONLY_TEXT
    if error["type"] == "extra_forbidden":
        return "There is no such field."
    return str(error["msg"]).removeprefix("Value error, ")


def _is_no_text_part(error: Any) -> bool:
    return bool(error["type"] == "literal_error" and error["ctx"]["expected"] == "'text'")


@cache
def _field_names() -> frozenset[str]:
    models = Batch.model_json_schema()
    return frozenset(name for model in (models, *models["$defs"].values()) for name in model.get("properties", {}))


@cache
def _types() -> tuple[str, ...]:
    return tuple(event_adapter.json_schema()["discriminator"]["mapping"])
