"""Amazon Nova and Google Gemini: content in blocks of text, the system prompt apart, replies with a label or a score."""

from collections.abc import Mapping
from typing import Any

from ingest.events import Message
from pairing.formats import reading, writing
from pairing.formats.format import Format, has
from pairing.formats.nemo import over
from pairing.formats.values import Entry, Preference, Reason, Refused, Row, preference

_LABELS = {"preferred": 1.0, "non-preferred": 0.0}
_GEMINI_ROLES = {"user": "user", "model": "assistant"}


def _claims_nova(row: Row) -> bool:
    return has(row, list, "messages") and _has_candidates(row["messages"])


def _has_candidates(messages: list[Any]) -> bool:
    return bool(messages) and isinstance(messages[-1], dict) and "candidates" in messages[-1]


def _read_nova(row: Row) -> list[Preference]:
    """Each preferred candidate over each that is not."""
    said = reading.objects(row, "messages")
    if not _has_candidates(said):
        raise Refused(Reason.NOT_A_PAIR)
    *before, last = said
    prompt = (*_system(row.get("system"), "system"), *(_nova_message(one) for one in before))
    candidates = reading.objects(last, "candidates")
    labels = [_LABELS.get(str(one.get("preferenceLabel"))) for one in candidates]
    if None in labels:
        reading.wrong("preferenceLabel", " or ".join(_LABELS))
    pairs = over(candidates, [label for label in labels if label is not None])
    replies = [tuple(_reply(one.get("content"), "candidates.content") for one in pair) for pair in pairs]
    tags = reading.tags(row, ("system", "messages"))
    return [preference(_some(prompt), chosen, rejected, tags=tags) for chosen, rejected in replies]


def _nova_message(row: Row) -> Message:
    return _message(row.get("role"), row.get("content"), "messages.content")


def _write_nova(entry: Entry) -> dict[str, Any]:
    system, turns, replies = _in_blocks(entry, {"user": "user", "assistant": "assistant"})
    messages = [{"role": role, "content": content} for role, content in turns]
    candidates = [{"content": reply, "preferenceLabel": label} for reply, label in zip(replies, _LABELS, strict=True)]
    last = {"role": "assistant", "candidates": candidates}
    return ({"system": system} if system else {}) | {"messages": [*messages, last]}


def _claims_gemini(row: Row) -> bool:
    return has(row, list, "contents", "completions")


def _read_gemini(row: Row) -> list[Preference]:
    """The completion with the highest score over each with a lower one."""
    instruction = row.get("system_instruction") or row.get("systemInstruction") or {}
    parts = instruction.get("parts") if isinstance(instruction, dict) else instruction
    prompt = (*_system(parts, "system_instruction.parts"), *(_gemini_message(one) for one in reading.objects(row, "contents")))
    completions = reading.objects(row, "completions")
    pairs = over(completions, [_score(completion) for completion in completions])
    tags = reading.tags(row, ("system_instruction", "systemInstruction", "contents", "completions"))
    return [preference(_some(prompt), _completion(best), _completion(worse), tags=tags) for best, worse in pairs]


def _gemini_message(row: Row) -> Message:
    role = _GEMINI_ROLES.get(str(row.get("role", "user")))
    return _message(role, row.get("parts"), "contents.parts")


def _completion(row: Row) -> Message:
    said = row.get("completion")
    return _reply(said.get("parts") if isinstance(said, dict) else None, "completions.completion.parts")


def _score(completion: Row) -> float:
    score = completion.get("score")
    return score if isinstance(score, int | float) else reading.wrong("completions.score", "a number")


def _write_gemini(entry: Entry) -> dict[str, Any]:
    """It wants a prompt that ends with the user."""
    system, turns, replies = _in_blocks(entry, {"user": "user", "assistant": "model"})
    if not turns or turns[-1][0] != "user":
        raise Refused(Reason.ROLE, "Gemini wants a prompt that ends with the user.")
    contents = [{"role": role, "parts": parts} for role, parts in turns]
    scored = [
        {"score": score, "completion": {"role": "model", "parts": reply}} for score, reply in zip((1, 0), replies, strict=True)
    ]
    return ({"system_instruction": {"parts": system}} if system else {}) | {"contents": contents, "completions": scored}


def _system(value: Any, name: str) -> reading.Messages:
    return (Message(role="system", content=reading.blocks(value, name)),) if value else ()


def _message(role: Any, content: Any, name: str) -> Message:
    if role not in ("user", "assistant"):
        raise Refused(Reason.WRONG_MESSAGE, f"A message before `{name.rpartition('.')[2]}` has an unknown role.")
    return Message(role=role, content=reading.blocks(content, name))


def _reply(content: Any, name: str) -> Message:
    return Message(role="assistant", content=reading.blocks(content, name))


def _some(prompt: reading.Messages) -> reading.Messages:
    if not prompt:
        raise Refused(Reason.NO_PROMPT)
    return prompt


Blocks = list[dict[str, str]]


def _in_blocks(entry: Entry, roles: Mapping[str, str]) -> tuple[Blocks, list[tuple[str, Blocks]], list[Blocks]]:
    """The system prompt, the turns with their roles, and the two replies."""
    pair = writing.pair_of(entry)
    writing.without_tools(pair)
    said = writing.conversation(pair)
    system, turns = (said[:1], said[1:]) if said[0].role == "system" else ((), said)
    replies = [writing.blocks(writing.as_message(reply)) for reply in (pair.chosen, pair.rejected)]
    in_turns = [(message, writing.blocks(message)) for message in turns]
    if any(message.role not in roles for message in turns):
        raise Refused(Reason.ROLE)
    in_system = [block for message in system for block in writing.blocks(message)]
    return in_system, [(roles[message.role], content) for message, content in in_turns], replies


FORMATS = (
    Format("nova", _claims_nova, _read_nova, _write_nova),
    Format("gemini", _claims_gemini, _read_gemini, _write_gemini),
)
