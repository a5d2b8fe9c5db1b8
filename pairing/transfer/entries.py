"""From rows to pairs and examples, and on to the events that ingest takes."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pydantic import TypeAdapter

from ingest.events import UNDATED, Prompt, Reply, canonical
from pairing.formats import FORMATS, READ, Unclear, claimants, detect
from pairing.formats.format import Format
from pairing.formats.values import Entry, Preference, Reason, Refused
from pairing.transfer import TransferFailed
from pairing.transfer.source import Line

IMPORTED_AT = UNDATED.isoformat().replace("+00:00", "Z")
"""When an imported preference happened, for every one of them.

The same row must be the same event, byte for byte, whenever it is sent: with a time of its own, a stopped import that is run
again would send other bodies under the same ids.
"""
_LOOKED_AT, _LOOKED_FOR_IN = 20, 1_000
"""Rows that show the format, and the lines that they are looked for in."""
_MOST_TAGS = 32
_TAG = re.compile(r"[^\x00-\x1f\x7f]{0,200}")
_prompts: TypeAdapter[Prompt] = TypeAdapter(Prompt)
_replies: TypeAdapter[Reply] = TypeAdapter(Reply)


@dataclass(frozen=True, slots=True)
class Found:
    """What a line held: one pair or example, or several, or none that can be kept."""

    line: int
    entries: tuple[Entry, ...] | Refused
    pair_id: str | None = None
    """Of a pair that the service has."""


def entries(lines: Iterator[Line], format_name: str | None, option: str = "--format") -> Iterator[Found]:
    """Read the rows in this format, or in the one that the first of them show. `option` is where a person names it.

    Raises:
        TransferFailed: there is no such format; or they show none, or several.
    """
    if format_name is not None:
        named = _named(format_name)
        return (_found(line, named) for line in lines)
    first = _first(lines)
    shown = _shown(first, option)
    return (_found(line, shown, option) for line in chain(first, lines))


def _first(lines: Iterator[Line]) -> list[Line]:
    taken, rows = [], 0
    for line in lines:
        taken.append(line)
        rows += not isinstance(line.row, Refused)
        if rows == _LOOKED_AT or len(taken) == _LOOKED_FOR_IN:
            break
    return taken


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise TransferFailed(f"{name} is no format that is read. Formats are {', '.join(READ)}.")
    return FORMATS[name]


def _shown(first: list[Line], option: str) -> Format:
    rows = [line.row for line in first if not isinstance(line.row, Refused)]
    if not rows and len(first) == _LOOKED_FOR_IN:
        raise TransferFailed(f"None of the first {len(first):,} lines is a JSON object: is this JSON Lines?")
    if not rows:  # in the whole file: each line is refused already
        return FORMATS["trl"]
    try:
        return detect(rows)
    except Unclear as error:
        raise TransferFailed(f"{error} Say with {option} how to read them all.") from None


def _found(line: Line, chosen: Format, option: str | None = None) -> Found:
    """With `option` the format was found, and not named: a later row that looks like another one is not read as this one."""
    if isinstance(line.row, Refused):
        return Found(line.number, line.row)
    try:
        if option and not chosen.claims(line.row) and (others := claimants(line.row)):
            raise Refused(
                Reason.OTHER_FORMAT,
                f"It looks like {' or '.join(sorted(others))}, the first rows like {chosen.name}: "
                f"say with {option} how to read them all.",
            )
        return Found(line.number, tuple(chosen.read(line.row)))
    except Refused as refused:
        return Found(line.number, refused)


def event(entry: Entry, task: str) -> tuple[bytes, set[str]]:
    """The event of a pair or example as canonical JSON, and the names of the tags that it could not hold.

    Its id is the hash of everything else in it: the same row twice, in whatever format, is one event.
    """
    tags = _fitting(entry.tags)
    body = {"occurred_at": IMPORTED_AT, "task": task, **({"tags": tags} if tags else {})}
    body |= _preference(entry) if isinstance(entry, Preference) else _rating(entry, task)
    content = canonical(body)
    event_id = f"import:{hashlib.sha256(content).hexdigest()}"
    return b'{"event_id":"%s",%s' % (event_id.encode(), content[1:]), entry.tags.keys() - tags.keys()


def _preference(pair: Preference) -> dict[str, Any]:
    said = {"type": "preference", "chosen": _reply(pair.chosen), "rejected": _reply(pair.rejected)}
    return said | _asked(pair)


def _rating(example: Any, task: str) -> dict[str, Any]:
    """A rating that carries the generation it is about: what was asked and answered, under an id that follows from both."""
    generation = _asked(example) | {"candidates": [{"reply": _reply(example.completion)}]}
    generation_id = f"import:{hashlib.sha256(canonical([task, generation])).hexdigest()}"
    return {
        "type": "rating",
        "generation": generation | {"generation_id": generation_id},
        "reply": {"generation_id": generation_id},
        "thumb": "up" if example.label else "down",
    }


def _asked(entry: Entry) -> dict[str, Any]:
    prompt = _prompts.dump_python(entry.prompt, mode="json", exclude_defaults=True)
    return {"prompt": prompt} | ({"tools": list(entry.tools)} if entry.tools else {})


def _reply(reply: Reply) -> Any:
    return _replies.dump_python(reply, mode="json", exclude_defaults=True)


def _fitting(tags: Mapping[str, str]) -> dict[str, str]:
    fitting = {name: value for name, value in tags.items() if _TAG.fullmatch(name) and _TAG.fullmatch(value)}
    return dict(list(fitting.items())[:_MOST_TAGS])
