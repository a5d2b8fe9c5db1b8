"""OpenPipe: a chat that ends in the chosen reply, and the rejected one beside it."""

from typing import Any

from pairing.formats import reading, writing
from pairing.formats.format import Format, has
from pairing.formats.values import Entry, Preference, Reason, Refused, Row, preference

_USED = ("messages", "rejected_message", "tools", "metadata")
_SPLITS = {"train": "TRAIN", "test": "TEST", "holdout": "TEST"}


def _claims(row: Row) -> bool:
    return has(row, list, "messages") and has(row, dict, "rejected_message")


def _read(row: Row) -> list[Preference]:
    said = reading.messages(row.get("messages"), "messages")
    if row.get("rejected_message") is None:
        raise Refused(Reason.NOT_A_PAIR)
    if len(said) == 1:
        raise Refused(Reason.NO_PROMPT)
    rejected = reading.message(row["rejected_message"], "rejected_message")
    tags = reading.tags(row, _USED) | _metadata(row)
    return [preference(said[:-1], said[-1], rejected, reading.tools(row.get("tools")), tags)]


def _metadata(row: Row) -> dict[str, str]:
    metadata = row.get("metadata")
    return {name: reading.as_tag(value) for name, value in metadata.items()} if isinstance(metadata, dict) else {}


def _write(entry: Entry) -> dict[str, Any]:
    """The only service format with a place for the split; held-out pairs are its TEST."""
    pair = writing.pair_of(entry)
    said = [*writing.conversation(pair), writing.as_message(pair.chosen)]
    row: dict[str, Any] = {
        "messages": [writing.plain(message) for message in said],
        "rejected_message": writing.plain(writing.as_message(pair.rejected)),
    }
    if pair.tools:
        row["tools"] = list(pair.tools)
    if split := _SPLITS.get(pair.tags.get("split", "").lower()):
        row["split"] = split
    return row


FORMATS = (Format("openpipe", _claims, _read, _write, frozenset({"split"})),)
