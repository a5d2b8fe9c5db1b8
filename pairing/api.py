"""The pairs over HTTP: GET /v1/pairs streams a task's pairs as lines of JSON, in the order of their ids.

Served by the same process as feedback is taken, so that one address and one kind of key do for import and export.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Row, Select, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ingest.database import Database
from ingest.document import answers, wants_key
from ingest.keys import KeyRing
from ingest.parsing import invalid
from ingest.problems import FieldError, Problem
from pairing.rows import table_of
from pairing.tables import Pair

PAGE_ROWS = 500
"""Rows of one short read transaction, and in memory at once."""
MEDIA_TYPE = "application/x-ndjson"

_pairs = table_of(Pair)
_TEXTS = ("prompt", "tools", "chosen", "rejected")
"""Columns that are JSON already."""
_CHOICES: Mapping[str, tuple[str, ...]] = {"split": ("train", "holdout"), "kind": ("pairs",)}


def routes(database: Database, keys: KeyRing) -> APIRouter:
    """The routes of this stage."""
    router = APIRouter()
    described = {**wants_key(), "parameters": _PARAMETERS}
    responses = answers(401, 403, 422, 503) | {200: _ANSWER}

    @router.get("/v1/pairs", responses=responses, openapi_extra=described, response_class=Response)
    def pairs(request: Request) -> Response:
        """A task's pairs, one a line, for a key with the scope `admin`."""
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
    """Each read by a transaction of its own, from where the last one ended: pairs that come or go meanwhile are there or not."""
    last = ""
    while rows := _page(database, _select(asked, last)):
        yield b"".join(_line(row) for row in rows)
        last = rows[-1].id


def _page(database: Database, statement: Select[Any]) -> Sequence[Row[Any]]:
    with database.read() as session:
        return session.connection().execute(statement.limit(PAGE_ROWS)).all()


def _select(asked: Mapping[str, str], after: str) -> Select[Any]:
    """What a row of the answer says, and in which order."""
    columns = [column for column in _pairs.c if column.name in _SAID]
    wanted = [_pairs.c[name] == asked[name] for name in ("task", "split", "source") if asked.get(name)]
    return select(*columns).where(*wanted, _pairs.c.id > after).order_by(_pairs.c.id)


def _line(row: Row[Any]) -> bytes:
    """The row as JSON. Its texts are that already, and stay as they are."""
    plain = {name: _plain(value) for name, value in row._mapping.items() if name not in _TEXTS}
    texts = ",".join(f'"{name}":{"null" if (text := row._mapping[name]) is None else text}' for name in _TEXTS)
    return f"{json.dumps(plain, ensure_ascii=False)[:-1]},{texts}}}\n".encode()


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


_SAID = (
    *("id", "task", *_TEXTS, "source", "split", "votes_for", "votes_against", "weight", "wrong_share"),
    *("chosen_adapters", "rejected_adapters", "created_at"),
)
_TEXT = {"type": "string"}


def _parameter(name: str, description: str, schema: Mapping[str, Any], required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


_PARAMETERS = [
    _parameter("task", "Whose pairs.", _TEXT, required=True),
    _parameter("split", "Only these; all by default.", {"enum": list(_CHOICES["split"])}),
    _parameter("source", "Only from this source.", _TEXT),
    _parameter("kind", "Pairs, or unpaired examples.", {"enum": list(_CHOICES["kind"]), "default": "pairs"}),
]
_ANSWER = {"description": "One JSON object a line, in the order of their ids.", "content": {MEDIA_TYPE: {"schema": _TEXT}}}
