"""NVIDIA NeMo: Aligner and Customizer, RL, HelpSteer3."""

from typing import Any

from ingest.events import Message
from pairing.formats import reading, trl, writing
from pairing.formats.format import Format, has
from pairing.formats.values import Entry, Preference, Reason, Refused, Row, preference

_ALIGNER = ("prompt", "chosen_response", "rejected_response")
_HELPSTEER = ("context", "response1", "response2")


def _claims_aligner(row: Row) -> bool:
    return "prompt" in row and "chosen_response" in row and "rejected_response" in row


def _read_aligner(row: Row) -> list[Preference]:
    asked = reading.prompt(row.get("prompt"), "prompt")
    chosen, rejected = (reading.reply(row.get(name), name) for name in _ALIGNER[1:])
    return [preference(asked, chosen, rejected, tags=reading.tags(row, _ALIGNER))]


def _write_aligner(entry: Entry) -> dict[str, Any]:
    pair = writing.pair_of(entry)
    writing.without_tools(pair)
    asked = pair.prompt if isinstance(pair.prompt, str) else [writing.plain(message) for message in pair.prompt]
    chosen, rejected = writing.plain_text(pair.chosen), writing.plain_text(pair.rejected)
    return {"prompt": asked, "chosen_response": chosen, "rejected_response": rejected}


def _claims_rl(row: Row) -> bool:
    return has(row, list, "context", "completions")


def _read_rl(row: Row) -> list[Preference]:
    """Ranked completions, the lowest rank over each higher one; or rows with `prompt`, `chosen`, `rejected`, as TRL's."""
    if "completions" not in row:
        return trl.read(row)
    ranked = reading.objects(row, "completions")
    ranks = [_rank(completion) for completion in ranked]
    tags = reading.tags(row, ("context", "completions"))
    return [_ranked(row, best, worse, tags) for best, worse in over(ranked, [-rank for rank in ranks])]


def _ranked(row: Row, best: Row, worse: Row, tags: dict[str, str]) -> Preference:
    before = reading.messages(row.get("context"), "context")
    chosen, rejected = (reading.messages(one.get("completion"), "completions.completion") for one in (best, worse))
    return preference(*reading.apart(before, chosen, rejected, Reason.SEVERAL_MESSAGES), tags=tags)


def _rank(completion: Row) -> float:
    rank = completion.get("rank")
    return rank if isinstance(rank, int | float) else reading.wrong("completions.rank", "a number")


def over(ranked: list[Row], worth: list[float]) -> list[tuple[Row, Row]]:
    """Each of the best over each that is worth less.

    Raises:
        Refused: there are none.
    """
    best = max(worth, default=0)
    at_top = [one for one, value in zip(ranked, worth, strict=True) if value == best]
    below = [one for one, value in zip(ranked, worth, strict=True) if value < best]
    if not below:
        raise Refused(Reason.TIE)
    return [(one, other) for one in at_top for other in below]


def _write_rl(entry: Entry) -> dict[str, Any]:
    pair = writing.pair_of(entry)
    writing.without_tools(pair)
    context = [writing.plain(message) for message in writing.conversation(pair)]
    replies = [[writing.plain(writing.as_message(reply))] for reply in (pair.chosen, pair.rejected)]
    completions = [{"rank": rank, "completion": reply} for rank, reply in enumerate(replies)]
    return {"context": context, "completions": completions}


def _claims_helpsteer(row: Row) -> bool:
    return "context" in row and has(row, str, "response1", "response2") and "overall_preference" in row


def _read_helpsteer(row: Row) -> list[Preference]:
    """`overall_preference` runs from -3, the first is much better, to 3, the second is."""
    verdict = row.get("overall_preference")
    if not isinstance(verdict, int | float):
        reading.wrong("overall_preference", "a number")
    if not verdict:
        raise Refused(Reason.TIE)
    asked = reading.prompt(row.get("context"), "context")
    prompt = (Message(role="user", content=asked),) if isinstance(asked, str) else asked
    replies = reading.text(row, "response1"), reading.text(row, "response2")
    chosen, rejected = replies if verdict < 0 else replies[::-1]
    return [preference(prompt, chosen, rejected, tags=reading.tags(row, _HELPSTEER))]


FORMATS = (
    Format("nemo-aligner", _claims_aligner, _read_aligner, _write_aligner),
    Format("nemo-rl", _claims_rl, _read_rl, _write_rl),
    Format("helpsteer3", _claims_helpsteer, _read_helpsteer),
)
