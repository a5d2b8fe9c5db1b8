"""TRL: conversational and text, with and without a prompt of its own, paired and unpaired."""

from typing import Any

from pairing.formats import reading, writing
from pairing.formats.format import Format, has
from pairing.formats.transcript import is_transcript
from pairing.formats.values import Entry, Example, Preference, Reason, Refused, Row, example, preference

_PAIR = ("prompt", "chosen", "rejected", "tools")
_UNPAIRED = ("prompt", "completion", "label", "tools")
_OTHERS_COLUMNS = ("system", "question", "input", "instruction", "conversations", "messages")
"""With one of these beside them, `chosen` and `rejected` are another format's."""


def _claims_lists(row: Row) -> bool:
    explicit = has(row, list, "prompt")
    return has(row, list, "chosen", "rejected") and (explicit or row.get("prompt") is None)


def _claims_texts(row: Row) -> bool:
    if not has(row, str, "chosen", "rejected") or row.get("system") is not None:
        return False
    if row.get("prompt") is not None:
        return has(row, str, "prompt")
    return not is_transcript(row["chosen"]) and not any(row.get(name) is not None for name in _OTHERS_COLUMNS)


def _claims_unpaired(row: Row) -> bool:
    return has(row, bool, "label") and "prompt" in row and "completion" in row


def read(row: Row) -> list[Preference]:
    """Any paired row of TRL's."""
    tools, tags = reading.tools(row.get("tools")), reading.tags(row, _PAIR)
    asked = row.get("prompt")
    if isinstance(row.get("chosen"), str):
        return [preference(*_texts(row, asked), tags=tags, tools=tools)]
    chosen, rejected = (reading.messages(row.get(name), name) for name in ("chosen", "rejected"))
    before = () if asked is None else reading.messages(asked, "prompt")
    otherwise = Reason.SEVERAL_MESSAGES if before else Reason.DIFFERENT_PROMPTS
    return [preference(*reading.apart(before, chosen, rejected, otherwise), tags=tags, tools=tools)]


def _texts(row: Row, asked: Any) -> tuple[str, str, str]:
    chosen, rejected = reading.text(row, "chosen"), reading.text(row, "rejected")
    return _common(chosen, rejected) if asked is None else (reading.text(row, "prompt"), chosen, rejected)


def _common(chosen: str, rejected: str) -> tuple[str, str, str]:
    """An implicit prompt, cut where TRL's `extract_prompt` cuts it: at the first difference, even in mid-word.

    Where one text is the beginning of the other there is none: it is the prompt then, and not all of it but one character.
    """
    end = next((at for at, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None)
    end = min(len(chosen), len(rejected)) if end is None else end
    if end and chosen[end - 1] == " ":
        end -= 1
    if not end:
        raise Refused(Reason.NO_PROMPT)
    return chosen[:end], chosen[end:], rejected[end:]


def _read_unpaired(row: Row) -> list[Example]:
    label = row.get("label")
    if not isinstance(label, bool):
        reading.wrong("label", "true or false")
    asked = reading.prompt(row.get("prompt"), "prompt")
    said = reading.reply(row.get("completion"), "completion")
    return [example(asked, said, label, reading.tools(row.get("tools")), reading.tags(row, _UNPAIRED))]


def _write(entry: Entry) -> dict[str, Any]:
    pair = writing.pair_of(entry)
    row: dict[str, Any] = {
        "prompt": [writing.plain(message) for message in writing.conversation(pair)],
        "chosen": [writing.plain(writing.as_message(pair.chosen))],
        "rejected": [writing.plain(writing.as_message(pair.rejected))],
    }
    return row | ({"tools": list(pair.tools)} if pair.tools else {})


def _write_texts(entry: Entry) -> dict[str, Any]:
    pair = writing.pair_of(entry)
    writing.without_tools(pair)
    if not isinstance(pair.prompt, str):
        raise Refused(Reason.CONVERSATION)
    chosen, rejected = writing.plain_text(pair.chosen), writing.plain_text(pair.rejected)
    return {"prompt": pair.prompt, "chosen": chosen, "rejected": rejected}


def _write_unpaired(entry: Entry) -> dict[str, Any]:
    if not isinstance(entry, Example):
        raise Refused(Reason.PAIRED)
    if isinstance(entry.prompt, str):
        writing.without_tools(entry)
        return {"prompt": entry.prompt, "completion": writing.plain_text(entry.completion), "label": entry.label}
    prompt = [writing.plain(message) for message in entry.prompt]
    completion = [writing.plain(writing.as_message(entry.completion))]
    row: dict[str, Any] = {"prompt": prompt, "completion": completion, "label": entry.label}
    return row | ({"tools": list(entry.tools)} if entry.tools else {})


FORMATS = (
    Format("trl", _claims_lists, read, _write),
    Format("trl-standard", _claims_texts, read, _write_texts),
    Format("trl-unpaired", _claims_unpaired, _read_unpaired, _write_unpaired),
)
