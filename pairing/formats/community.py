"""Formats of data sets and trainers, read and not written: UltraFeedback, Axolotl, LLaMA-Factory, ms-swift, Orca."""

from typing import Any

from ingest.events import Message
from pairing.formats import reading
from pairing.formats.format import Format, has
from pairing.formats.values import Preference, Reason, Refused, Row, preference

_SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system"}


def _claims_ultrafeedback(row: Row) -> bool:
    return has(row, str, "prompt") and has(row, list, "chosen", "rejected")


def _read_ultrafeedback(row: Row) -> list[Preference]:
    """Lists that begin with the prompt, which stands beside them as text too, or hold only a reply each.

    `messages` repeats `chosen`.
    """
    asked = reading.text(row, "prompt")
    chosen, rejected = (reading.messages(row.get(name), name) for name in ("chosen", "rejected"))
    tags = reading.tags(row, ("prompt", "chosen", "rejected", "messages", "system"))
    alone = () if len(chosen) > 1 or len(rejected) > 1 else reading.asked(None, asked)
    prompt, one, other = reading.apart(alone, chosen, rejected, Reason.DIFFERENT_PROMPTS)
    if not any(message.content == asked for message in prompt):
        raise Refused(Reason.DIFFERENT_PROMPTS, "`prompt` is not among the messages of `chosen` and `rejected`.")
    return [preference(_with_system(row, prompt), one, other, tags=tags)]


def _claims_axolotl(row: Row) -> bool:
    chat = has(row, list, "messages") and has(row, dict, "chosen", "rejected")
    argilla = has(row, str, "instruction", "chosen_response", "rejected_response")
    return chat or argilla or has(row, str, "system", "prompt", "chosen", "rejected")


def _read_axolotl(row: Row) -> list[Preference]:
    """`chat_template`: messages and two replies. `argilla`, `prompt_pairs`: a system prompt, one question, two replies."""
    if "messages" in row:
        prompt = reading.messages(row["messages"], "messages")
        chosen, rejected = (reading.message(row.get(name), name) for name in ("chosen", "rejected"))
        tags = reading.tags(row, ("messages", "chosen", "rejected", "tools"))
        return [preference(prompt, chosen, rejected, reading.tools(row.get("tools")), tags)]
    if "instruction" in row:
        return [_one_turn(row, "instruction", "chosen_response", "rejected_response")]
    return [_one_turn(row, "prompt", "chosen", "rejected")]


def _claims_sharegpt(row: Row) -> bool:
    return has(row, list, "conversations") and (has(row, dict, "chosen", "rejected") or has(row, str, "chosen", "rejected"))


def _read_sharegpt(row: Row) -> list[Preference]:
    prompt = tuple(_spoken(one, "conversations") for one in reading.objects(row, "conversations"))
    if not prompt:
        raise Refused(Reason.NO_PROMPT)
    chosen, rejected = (_spoken_reply(row.get(name), name) for name in ("chosen", "rejected"))
    tags = reading.tags(row, ("conversations", "chosen", "rejected", "system", "tools"))
    return [preference(_with_system(row, prompt), chosen, rejected, reading.tools(row.get("tools")), tags)]


def _spoken_reply(value: Any, name: str) -> Message | str:
    if isinstance(value, str):
        return value
    return _spoken(value, name) if isinstance(value, dict) else reading.wrong(name, "an object with `from` and `value`")


def _spoken(row: Row, name: str) -> Message:
    who = str(row.get("from"))
    if who in ("function_call", "observation"):
        raise Refused(Reason.WRONG_MESSAGE, "Calls of tools as ShareGPT writes them are not understood.")
    if who not in _SPEAKERS:
        raise Refused(Reason.WRONG_MESSAGE, f"`{name}.from` must be one of {', '.join(_SPEAKERS)}.")
    return reading.message({"role": _SPEAKERS[who], "content": reading.text(row, "value")}, name)


def _claims_alpaca(row: Row) -> bool:
    return has(row, str, "instruction", "chosen", "rejected")


def _read_alpaca(row: Row) -> list[Preference]:
    """The instruction and, where there is one, the input on the next line, as LLaMA-Factory joins them."""
    instruction, more = reading.text(row, "instruction"), row.get("input")
    asked = f"{instruction}\n{more}" if isinstance(more, str) and more else instruction
    *system, question = reading.asked(row.get("system"), asked)
    prompt = (*system, *_history(row.get("history")), question)
    tags = reading.tags(row, ("instruction", "input", "system", "history", "chosen", "rejected"))
    return [preference(prompt, reading.text(row, "chosen"), reading.text(row, "rejected"), tags=tags)]


def _history(turns: Any) -> list[Message]:
    if not turns:
        return []
    if not isinstance(turns, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        reading.wrong("history", "a list of pairs: what was asked, what was answered")
    said = [{"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    return list(reading.messages(said, "history"))


def _claims_swift(row: Row) -> bool:
    is_pair = has(row, str, "rejected_response") or has(row, list, "rejected_messages")
    return has(row, list, "messages") and is_pair


def _read_swift(row: Row) -> list[Preference]:
    """A chat that ends in the chosen reply, and either the rejected reply or the whole chat with it."""
    said = reading.messages(row.get("messages"), "messages")
    tools = reading.tools(row.get("tools"))
    tags = reading.tags(row, ("messages", "rejected_response", "rejected_messages", "system", "tools"))
    if row.get("rejected_messages") is not None:
        other = reading.messages(row["rejected_messages"], "rejected_messages")
        prompt, chosen, rejected = reading.apart((), said, other, Reason.DIFFERENT_PROMPTS)
        return [preference(_with_system(row, prompt), chosen, rejected, tools, tags)]
    if len(said) == 1:
        raise Refused(Reason.NO_PROMPT)
    if row.get("rejected_response") is None:
        raise Refused(Reason.NOT_A_PAIR)
    return [preference(_with_system(row, said[:-1]), said[-1], reading.text(row, "rejected_response"), tools, tags)]


def _claims_orca(row: Row) -> bool:
    asked = has(row, str, "question") or has(row, str, "input")
    return asked and has(row, str, "chosen", "rejected") and "instruction" not in row


def _read_orca(row: Row) -> list[Preference]:
    """Intel's `question`, or Argilla's `input`."""
    return [_one_turn(row, "question" if "question" in row else "input", "chosen", "rejected")]


def _one_turn(row: Row, question: str, chosen: str, rejected: str) -> Preference:
    prompt = reading.asked(row.get("system"), reading.text(row, question))
    tags = reading.tags(row, ("system", question, chosen, rejected))
    return preference(prompt, reading.text(row, chosen), reading.text(row, rejected), tags=tags)


def _with_system(row: Row, prompt: reading.Messages) -> reading.Messages:
    """With the system prompt that stands beside a conversation, unless it is there already or empty."""
    system = row.get("system")
    if not isinstance(system, str) or not system or prompt[0].role == "system":
        return prompt
    return (Message(role="system", content=system), *prompt)


FORMATS = (
    Format("ultrafeedback", _claims_ultrafeedback, _read_ultrafeedback),
    Format("axolotl", _claims_axolotl, _read_axolotl),
    Format("sharegpt", _claims_sharegpt, _read_sharegpt),
    Format("alpaca", _claims_alpaca, _read_alpaca),
    Format("swift", _claims_swift, _read_swift),
    Format("orca", _claims_orca, _read_orca),
)
