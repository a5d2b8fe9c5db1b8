"""Out of the service, and into files: each pair as a row, or refused with its reason."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import TypeAdapter

from ingest.events import Prompt, Reply
from pairing.formats.values import Entry, Refused, Row, example, preference
from pairing.transfer.entries import Found
from pairing.transfer.report import Tally
from pairing.transfer.target import Target

_SETTLED_EVERY = 500
_prompts: TypeAdapter[Prompt] = TypeAdapter(Prompt)
_replies: TypeAdapter[Reply] = TypeAdapter(Reply)


def exported(rows: Iterable[Row]) -> Iterator[Found]:
    """What GET /v1/pairs gives, as pairs and examples."""
    return (Found(number, (_entry(row),), row.get("id")) for number, row in enumerate(rows, 1))


def write(found: Iterable[Found], target: Target, tally: Tally, settled: Callable[[], None]) -> None:
    """Write everything, and count it. `settled` is called now and then."""
    for number, one in enumerate(found, 1):
        try:
            _write(one, target, tally)
        except Refused as refused:
            tally.refuse(one.line, _about(refused, one.pair_id))
        tally.last_line = one.line
        if not number % _SETTLED_EVERY:
            settled()


def _write(one: Found, target: Target, tally: Tally) -> None:
    """All that the row held, or nothing of it: Refused."""
    if isinstance(one.entries, Refused):
        raise one.entries
    target.add(*one.entries)
    tally.taken += 1
    tally.leave_out(name for entry in one.entries for name in entry.tags.keys() - target.tags)


def _about(why: Refused, pair_id: str | None) -> Refused:
    return Refused(why.reason, f"{why.detail} Pair {pair_id}.") if pair_id else why


def _entry(row: Row) -> Entry:
    prompt, tools, tags = _prompts.validate_python(row["prompt"]), row.get("tools"), {"split": row["split"]}
    if "completion" in row:
        return example(prompt, _reply(row["completion"]), row["label"], tools, tags)
    return preference(prompt, _reply(row["chosen"]), _reply(row["rejected"]), tools, tags)


def _reply(value: Any) -> Reply:
    return _replies.validate_python(value)
