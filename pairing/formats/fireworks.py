"""The Fireworks cookbook: two conversations, or samples scored 1 and 0, or text in and text out."""

from typing import Any

from pairing.formats import reading, writing
from pairing.formats.format import Format, has
from pairing.formats.values import Entry, Preference, Reason, Refused, Row, preference

_USED = ("chosen", "rejected", "samples", "input", "preferred_output", "non_preferred_output", "tools")


def _claims(row: Row) -> bool:
    two = has(row, dict, "chosen", "rejected") and "messages" in row["chosen"] and "messages" in row["rejected"]
    return two or _has_samples(row) or has(row, str, "input", "preferred_output", "non_preferred_output")


def _has_samples(row: Row) -> bool:
    return has(row, list, "samples") and all(isinstance(sample, dict) and "messages" in sample for sample in row["samples"])


def _read(row: Row) -> list[Preference]:
    tags = reading.tags(row, _USED)
    if "preferred_output" in row:
        asked, chosen, rejected = (reading.text(row, name) for name in ("input", "preferred_output", "non_preferred_output"))
        return [preference(asked, chosen, rejected, tags=tags)]
    one, other = _scored(reading.objects(row, "samples")) if "samples" in row else (row.get("chosen"), row.get("rejected"))
    chosen_said, rejected_said = _conversation(one, "chosen"), _conversation(other, "rejected")
    prompt, chosen_reply, rejected_reply = reading.apart((), chosen_said, rejected_said, Reason.DIFFERENT_PROMPTS)
    return [preference(prompt, chosen_reply, rejected_reply, reading.tools(row.get("tools")), tags)]


def _conversation(value: Any, name: str) -> reading.Messages:
    if not isinstance(value, dict):
        reading.wrong(name, "an object with `messages`")
    return reading.messages(value.get("messages"), f"{name}.messages")


def _scored(samples: list[Row]) -> tuple[Row, Row]:
    """The one with score 1 and the one with score 0: the cookbook knows no other scores."""
    by_score: dict[Any, list[Row]] = {}
    for sample in samples:
        by_score.setdefault(_score(sample), []).append(sample)
    if set(by_score) != {0, 1} or len(samples) != 2:
        raise Refused(Reason.TIE, "`samples` must be two, with scores 1 and 0.")
    return by_score[1][0], by_score[0][0]


def _score(sample: Row) -> Any:
    evals = sample.get("evals")
    score = sample.get("score", evals.get("score") if isinstance(evals, dict) else None)
    return score if isinstance(score, int | float) else reading.wrong("samples.score", "a number")


def _write(entry: Entry) -> dict[str, Any]:
    pair = writing.pair_of(entry)
    writing.without_tools(pair)
    if isinstance(pair.prompt, str):
        chosen, rejected = writing.plain_text(pair.chosen), writing.plain_text(pair.rejected)
        return {"input": pair.prompt, "preferred_output": chosen, "non_preferred_output": rejected}
    prompt = [writing.plain(message) for message in pair.prompt]
    chosen_reply, rejected_reply = (writing.plain(writing.as_message(reply)) for reply in (pair.chosen, pair.rejected))
    return {"chosen": {"messages": [*prompt, chosen_reply]}, "rejected": {"messages": [*prompt, rejected_reply]}}


FORMATS = (Format("fireworks-cookbook", _claims, _read, _write),)
