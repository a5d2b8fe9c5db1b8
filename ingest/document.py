"""The OpenAPI document: routes read raw bodies, for speed, so that their schemas are put in here."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ingest.events import event_adapter
from ingest.examples import EXAMPLES

_REF = "#/components/schemas/{model}"
_EVENT = {"$ref": _REF.format(model="Event")}
_SECURITY: dict[str, Any] = {"security": [{"key": []}]}


def takes_event() -> dict[str, Any]:
    """What a route that takes one event adds to its description."""
    examples = {kind: {"summary": kind, "value": example} for kind, example in EXAMPLES.items()}
    return {**_SECURITY, "requestBody": _body({"schema": _EVENT, "examples": examples})}


def takes_batch(max_events: int) -> dict[str, Any]:
    """What a route that takes several events adds to its description."""
    events = {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": max_events}
    schema = {"type": "object", "required": ["events"], "additionalProperties": False, "properties": {"events": events}}
    example = {"events": [EXAMPLES["choice"], EXAMPLES["acceptance"]]}
    return {**_SECURITY, "requestBody": _body({"schema": schema, "example": example})}


def wants_key() -> dict[str, Any]:
    """What any other route with a key adds to its description."""
    return _SECURITY


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: 202 and these problems."""
    texts = {
        400: "The body is not JSON.",
        401: "No valid API key.",
        403: "The key lacks the scope, or is bound to other tasks.",
        413: "The body, or an event, is too large.",
        415: "The body is not sent as application/json.",
        422: "Fields are wrong: `errors` names them. Nothing was accepted.",
        503: "The event log or the database is away: nothing was acknowledged. Send the same again after `Retry-After` seconds.",
    }
    problem = {"content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}}
    return {status: {"description": texts[status], **problem} for status in statuses}


def document(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is to be."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = schema.setdefault("components", {})
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            components["schemas"] = components.get("schemas", {}) | _schemas()
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi


def _body(media: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": media}}


def _schemas() -> dict[str, Any]:
    event = event_adapter.json_schema(ref_template=_REF)
    schemas: dict[str, Any] = event.pop("$defs")
    for kind, ref in event["discriminator"]["mapping"].items():
        schemas[ref.rpartition("/")[2]]["examples"] = [EXAMPLES[kind]]
    return {**schemas, "Event": event, "Problem": _PROBLEM}


_TEXT = {"type": "string"}
_FIELD_ERROR = {"type": "object", "required": ["field", "message"], "properties": {"field": _TEXT, "message": _TEXT}}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457: what is wrong, and in `detail` what to do next.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        **dict.fromkeys(("type", "title", "detail"), _TEXT),
        "status": {"type": "integer"},
        "errors": {"type": "array", "items": _FIELD_ERROR},
    },
}
