"""Anthropic's HH: whole transcripts as text, with turns of a human and of an assistant."""

import re

from pairing.formats import reading
from pairing.formats.format import Format, has
from pairing.formats.values import Preference, Reason, Refused, Row, preference

_TURN = re.compile(r"(?:\A\n*|\n\n)(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether it begins as a transcript does."""
    return text.lstrip("\n").startswith("Human:")


def _claims(row: Row) -> bool:
    texts = has(row, str, "chosen", "rejected") and row.get("prompt") is None
    return texts and is_transcript(row["chosen"]) and is_transcript(row["rejected"])


def _read(row: Row) -> list[Preference]:
    chosen, rejected = (_messages(reading.text(row, name), name) for name in ("chosen", "rejected"))
    prompt, one, other = reading.apart((), chosen, rejected, Reason.DIFFERENT_PROMPTS)
    return [preference(prompt, one, other, tags=reading.tags(row, ("chosen", "rejected")))]


def _messages(text: str, name: str) -> reading.Messages:
    """The turns, without the mark before each, the one space behind it, and the empty line that parts them."""
    before, *turns = _TURN.split(text)
    if before or not turns:
        raise Refused(Reason.WRONG_FIELD, f"`{name}` must be turns that begin with `Human:` and `Assistant:`.")
    speakers, said = turns[::2], turns[1::2]
    return reading.messages([{"role": _ROLES[who], "content": what} for who, what in zip(speakers, said, strict=True)], name)


FORMATS = (Format("hh", _claims, _read),)
