"""Redaction: what a task does not want to keep is taken out of every text before the event log or a spool sees it.

Only texts are changed: of prompts, replies and saved replies, the arguments of tool calls, the results of tools. Ids, tags and
tool definitions stay. Redacting again changes nothing, and equal texts stay equal.
"""

import importlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ingest.events import EditEvent, Event, Feedback, Generation, Message, PreferenceEvent, TextPart, ToolCall
from ingest.settings import RedactionSettings, TaskSettings, WrongSetting

Redact = Callable[[str], str]
_MAIL = re.compile(r"(?<![\w.%+'-])[\w.%+'-]++@[\w-]++(?:\.[\w-]++)+")
_DIGITS = re.compile(r"\d")  # of any script
_FEWEST_DIGITS = 7
"""Of what may be a telephone number: a text with fewer is not looked through."""
_RUN = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,}+")
_GROUP = re.compile(r"\d+")
_CARD_DIGITS = range(13, 20)
_CARD_BEGINS = "23456"


class CannotRedact(Exception):
    """A task's own redaction failed on a text. Nothing of the event is kept: repair the function that the message names."""


class Redactor:
    """Redacts events by the settings of their tasks."""

    def __init__(self, tasks: Mapping[str, TaskSettings]) -> None:
        """Raises WrongSetting: a function cannot be imported."""
        self._of_task = {name: redact for name, task in tasks.items() if (redact := _by(name, task.redaction))}

    def needed(self, task: str) -> bool:
        """Whether the task's events are redacted at all; if not, there is nothing to wait for."""
        return task in self._of_task

    def __call__(self, event: Event) -> Event:
        """The event as it may be kept.

        Raises:
            CannotRedact: it may not.
        """
        redact = self._of_task.get(event.task)
        return event if redact is None else _event(event, redact)


def _by(task: str, settings: RedactionSettings) -> Redact | None:
    built_in = partial(_until_nothing_changes, [_STEPS[kind](settings) for kind in _STEPS if kind in settings.kinds])
    if settings.function is None:
        return built_in if settings.kinds else None
    own = partial(_called, task, settings.function, _imported(task, settings.function))
    return lambda text: built_in(own(built_in(text)))


def _until_nothing_changes(steps: Sequence[Redact], text: str) -> str:
    """What is taken out may bring out something beside it. Each round leaves fewer digits and @: there is a last one."""
    while (rest := _once(steps, text)) != text:
        text = rest
    return text


def _once(steps: Sequence[Redact], text: str) -> str:
    for step in steps:
        text = step(text)
    return text


def _without_cards(text: str) -> str:
    return _RUN.sub(lambda run: _without_cards_in(run[0]), text)


def _without_cards_in(run: str) -> str:
    """A run of digits in groups. A card number is whole groups of it: an expiry date may stand right behind."""
    groups = [(found.start(), found.end()) for found in _GROUP.finditer(run)]
    kept, at, first = [], 0, 0
    while first < len(groups):
        after = _card_end(run, groups[first : first + _CARD_DIGITS.stop])
        if after is None:
            first += 1
            continue
        kept += [run[at : groups[first][0]], "[card]"]
        at, first = groups[first + after - 1][1], first + after
    return "".join([*kept, run[at:]])


def _card_end(run: str, groups: Sequence[tuple[int, int]]) -> int | None:
    """How many of the groups are a card number, as many as may be; None when none are."""
    from stdnum import luhn

    digits, found = "", None
    for count, (start, end) in enumerate(groups, 1):
        digits += "".join(str(unicodedata.decimal(digit)) for digit in run[start:end])
        if len(digits) >= _CARD_DIGITS.stop:
            break
        if len(digits) >= _CARD_DIGITS.start and digits[0] in _CARD_BEGINS and luhn.is_valid(digits):
            found = count
    return found


def _without_phones(region: str | None, text: str) -> str:
    if len(_DIGITS.findall(text)) < _FEWEST_DIGITS:
        return text
    from phonenumbers import PhoneNumberMatcher

    kept, at = [], 0
    for found in PhoneNumberMatcher(text, region):
        kept += [text[at : found.start], "[phone]"]
        at = found.end
    return "".join([*kept, text[at:]])


_STEPS: dict[str, Callable[[RedactionSettings], Redact]] = {
    "email": lambda _: partial(_MAIL.sub, "[email]"),
    "card": lambda _: _without_cards,
    "phone": lambda settings: partial(_without_phones, settings.region),
}
"""In this order: a card number may look like a telephone number."""


def _called(task: str, name: str, function: Redact, text: str) -> str:
    try:
        rest = function(text)
        rest.encode()  # only text can be kept
    except Exception as error:  # noqa: BLE001  # it is not ours, and may raise anything
        # without the error's own text, which may quote what a user wrote
        raise CannotRedact(f"The redaction of the task {task}, {name}, failed: {type(error).__name__}.") from None
    return rest


def _imported(task: str, path: str) -> Redact:
    module, _, name = path.partition(":")
    try:
        found: Redact = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise WrongSetting(
            f"tasks.{task}.redaction.function: {path} cannot be imported ({error}); it must be MODULE:FUNCTION."
        ) from error
    return found


def _event(event: Event, redact: Redact) -> Event:
    changed: dict[str, Any] = {}
    if isinstance(event, Generation):
        changed = _generation(event, redact)
    elif isinstance(event, PreferenceEvent):
        texts = {name: _said(getattr(event, name), redact) for name in ("chosen", "rejected")}
        changed = {"prompt": _prompt(event.prompt, redact), **texts}
    elif isinstance(event, Feedback) and event.generation:
        changed = {"generation": event.generation.model_copy(update=_generation(event.generation, redact))}
    if isinstance(event, EditEvent):
        changed["saved"] = _said(event.saved, redact)
    return event.model_copy(update=changed) if changed else event


def _generation(held: Generation, redact: Redact) -> dict[str, Any]:
    replies = (one.model_copy(update={"reply": _said(one.reply, redact)}) for one in held.candidates)
    return {"prompt": _prompt(held.prompt, redact), "candidates": tuple(replies)}


def _prompt(prompt: tuple[Message, ...] | str, redact: Redact) -> tuple[Message, ...] | str:
    return redact(prompt) if isinstance(prompt, str) else tuple(_message(one, redact) for one in prompt)


def _said(reply: Message | str, redact: Redact) -> Message | str:
    return redact(reply) if isinstance(reply, str) else _message(reply, redact)


def _message(message: Message, redact: Redact) -> Message:
    content = message.content
    if isinstance(content, str):
        content = redact(content)
    elif content is not None:
        content = tuple(TextPart(type="text", text=redact(part.text)) for part in content)
    calls = message.tool_calls and tuple(_call(call, redact) for call in message.tool_calls)
    return message.model_copy(update={"content": content, "tool_calls": calls})


def _call(call: ToolCall, redact: Redact) -> ToolCall:
    arguments = _arguments(call.function.arguments, redact)
    return call.model_copy(update={"function": call.function.model_copy(update={"arguments": arguments})})


def _arguments(text: str, redact: Redact) -> str:
    """JSON stays JSON. What no model should have written as arguments is redacted as text."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return redact(text)
    rest = _value(said, redact)
    return text if rest == said else json.dumps(rest, ensure_ascii=False)


def _value(said: Any, redact: Redact) -> Any:
    match said:
        case dict():
            return {redact(name): _value(value, redact) for name, value in said.items()}
        case list():
            return [_value(one, redact) for one in said]
        case str():
            return redact(said)
        case int() | float() if not isinstance(said, bool):
            return said if redact(text := json.dumps(said)) == text else redact(text)
    return said
