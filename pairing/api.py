"""The pairs over HTTP: GET /v1/pairs streams a task's pairs, or its unpaired examples, as lines of JSON in a stable order.

Served by the same process as feedback is taken, so that one address and one kind of key do for import and export.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Column, ColumnElement, Row, Select, literal, select, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ingest.database import Database
from ingest.document import answers, wants_key
from ingest.keys import KeyRing
from ingest.parsing import invalid
from ingest.problems import FieldError, Problem
from pairing.rules.votes import Source
from pairing.short_keys import beginning, equal, joined
from pairing.statements import table_of
from pairing.tables import AskedPrompt, Pair, RatedReply

PAGE_ROWS = 500
"""Rows of one short read transaction, and in memory at once."""
MEDIA_TYPE = "application/x-ndjson"


def routes(database: Database, keys: KeyRing) -> APIRouter:
    """The routes of this stage."""
    router = APIRouter()
    described = {**wants_key(), "parameters": _PARAMETERS}
    responses = answers(401, 403, 422, 503) | {200: _ANSWER}

    @router.get("/v1/pairs", responses=responses, openapi_extra=described, response_class=Response)
    def pairs(request: Request) -> Response:
        """A task's pairs or unpaired examples, one a line, for a key with the scope `admin`."""
        caller = keys.authenticate(request.headers.get("authorization"))
        asked = _asked(request)
        caller.require("admin", asked["task"])
        return StreamingResponse(_opened(_pages(database, asked)), media_type=MEDIA_TYPE)

    return router


def _asked(request: Request) -> dict[str, str]:
    """The parameters of the query.

    Raises:
        Problem: 422, naming each that is wrong.
    """
    asked = dict(request.query_params)
    wrong: list[FieldError] = [
        {"field": name, "message": f"Must be one of {', '.join(known)}."}
        for name, known in _CHOICES.items()
        if asked.get(name, known[0]) not in known
    ]
    if asked.get("source") and asked.get("kind") == "examples":
        wrong.append({"field": "source", "message": "Only pairs have one: leave it out, or ask for pairs."})
    if not asked.get("task"):
        wrong.append({"field": "task", "message": "Name the task."})
    if wrong:
        raise invalid(wrong)
    return asked


def _opened(pages: Iterator[bytes]) -> Iterator[bytes]:
    """The pages, of which the first is read now: a database that is away is a 503, and not half an answer."""
    try:
        first = next(pages, b"")
    except (DBAPIError, PoolTimeout):
        raise Problem(
            503, "Database unavailable", "The database does not answer. Send the same request again.", {"Retry-After": "2"}
        ) from None

    def all_pages() -> Iterator[bytes]:
        yield first
        yield from pages

    return all_pages()


def _pages(database: Database, asked: Mapping[str, str]) -> Iterator[bytes]:
    """Each read by a transaction of its own, from where the last one ended: what comes or goes meanwhile is there or not.

    A pair that turns round meanwhile is another pair: both may be there, or neither.
    """
    kind = _KINDS[asked.get("kind", "pairs")]
    wanted = [kind.filters[name] == asked[name] for name in kind.filters if asked.get(name)]
    statement = kind.select.where(*wanted).order_by(*kind.order(*kind.key)).limit(PAGE_ROWS)
    after: tuple[str, ...] = ("",) * len(kind.key)
    while rows := _read(database, statement.where(tuple_(*kind.order(*kind.key)) > tuple_(*kind.order(*map(literal, after))))):
        yield b"".join(_line(row) for row in rows)
        after = tuple(rows[-1]._mapping[column] for column in kind.key)


def _read(database: Database, statement: Select[Any]) -> Sequence[Row[Any]]:
    with database.read() as session:
        return session.connection().execute(statement).all()


def _line(row: Row[Any]) -> bytes:
    """The row as JSON. What is JSON text in its table stays as it is."""
    said = {column: value for column, value in row._mapping.items() if column not in _HIDDEN}
    plain = {name: _plain(value) for name, value in said.items() if name not in _JSON}
    texts = ",".join(f'"{name}":{"null" if text is None else text}' for name, text in said.items() if name in _JSON)
    return f"{json.dumps(plain, ensure_ascii=False)[:-1]},{texts}}}\n".encode()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is asked for, in an order that its own index has."""

    select: Select[Any]
    key: tuple[Column[Any], ...]
    filters: Mapping[str, Column[Any]]
    order: Callable[..., tuple[ColumnElement[Any], ...]] = lambda *key: key


_pairs, _rated, _prompts = table_of(Pair).c, table_of(RatedReply).c, table_of(AskedPrompt).c
_JSON = frozenset({"prompt", "tools", "chosen", "rejected", "completion", "chosen_adapters", "rejected_adapters"})
_HIDDEN = frozenset({"prompt_hash", "reply_hash"})
_SAID = ("id", "task", "prompt", "tools", "chosen", "rejected", "source", "split", "votes_for", "votes_against", "weight")
_MORE = ("wrong_share", "chosen_adapters", "rejected_adapters", "created_at")
_KINDS: Mapping[str, _Kind] = {
    "pairs": _Kind(
        select(*(_pairs[name] for name in (*_SAID, *_MORE))),
        (_pairs.id,),
        {name: _pairs[name] for name in ("task", "split", "source")},
        lambda id_: (beginning(id_), id_),
    ),
    # A reply that people rated and that no pair by rating holds: what TRL calls unpaired.
    "examples": _Kind(
        select(
            *(_rated.task, _prompts.prompt, _prompts.tools, _rated.reply.label("completion")),
            *((_rated.net > 0).label("label"), _prompts.split, _rated.prompt_hash, _rated.reply_hash),
        )
        .join(table_of(AskedPrompt), equal(joined, (_prompts.hash, _rated.prompt_hash), (_prompts.task, _rated.task)))
        .where(_rated.net != 0, _rated.paired.is_(False)),
        (_rated.prompt_hash, _rated.reply_hash),
        {"task": _rated.task, "split": _prompts.split},
    ),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "split": ("train", "holdout"),
    "source": get_args(Source),
    "kind": tuple(_KINDS),
}
_TEXT = {"type": "string"}


def _parameter(name: str, description: str, schema: Mapping[str, Any], required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


_PARAMETERS = [
    _parameter("task", "Whose pairs.", _TEXT, required=True),
    _parameter("split", "Only these; all by default.", {"enum": list(_CHOICES["split"])}),
    _parameter("source", "Only pairs from this source.", {"enum": list(_CHOICES["source"])}),
    _parameter("kind", "Pairs, or unpaired examples.", {"enum": list(_CHOICES["kind"]), "default": "pairs"}),
]
_ANSWER = {"description": "One JSON object a line, in an order that stays.", "content": {MEDIA_TYPE: {"schema": _TEXT}}}
