"""Checks of a reply, by the task's criteria. Pure, but for a Python function that the settings name."""

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ingest.settings import CriterionSettings, WrongSetting


@dataclass(frozen=True, slots=True)
class FreshReply:
    """A reply that was sampled to be judged."""

    prompt: str
    text: str
    cut_off: bool
    """The token limit ended it, not the model."""

    @property
    def is_empty(self) -> bool:
        return not self.text.strip()


Check = Callable[[FreshReply], bool]


def checks(criteria: Sequence[CriterionSettings]) -> dict[str, Check]:
    """The check of each criterion, by its name. An empty reply passes none: saying nothing keeps every limit.

    Raises:
        WrongSetting: a criterion lacks what its type needs, or names a function that cannot be imported.
    """
    return {criterion.name: partial(_passes, _check(criterion)) for criterion in criteria}


def allowed_words(criteria: Sequence[CriterionSettings], reply: FreshReply) -> int:
    """Words of the reply, without those beyond its word limit: a reply that keeps to it has not lost anything."""
    limits = [_limit(_stating(one), one.max_words, reply) for one in criteria if one.type == "word_limit"]
    return min([words_in(reply.text), *(limit for limit in limits if limit is not None)])


def words_in(text: str) -> int:
    """Words as a person counts them: what white space parts."""
    return len(text.split())


def _passes(check: Check, reply: FreshReply) -> bool:
    return not reply.is_empty and check(reply)


def _check(criterion: CriterionSettings) -> Check:
    match criterion.type:
        case "word_limit" if criterion.limit_pattern or criterion.max_words:
            return partial(_within_limit, _stating(criterion), criterion.max_words)
        case "regex" if criterion.pattern:
            return partial(_matches, _compiled(criterion, criterion.pattern))
        case "python" if criterion.function:
            return partial(_approves, _imported(criterion, criterion.function))
    needs = {"word_limit": "max_words or limit_pattern", "regex": "pattern", "python": "function"}[criterion.type]
    raise WrongSetting(f"Criterion {criterion.name} is of type {criterion.type} and needs {needs}.")


def _within_limit(stating: re.Pattern[str] | None, most: int | None, reply: FreshReply) -> bool:
    """A reply that was cut off counts as over: nobody knows how long it would have become."""
    limit = _limit(stating, most, reply)
    return limit is None or (not reply.cut_off and words_in(reply.text) <= limit)


def _limit(stating: re.Pattern[str] | None, most: int | None, reply: FreshReply) -> int | None:
    """The limit that the prompt states last, or else the fixed one."""
    found = stating.findall(reply.prompt) if stating else []
    return int(found[-1]) if found and found[-1].isdecimal() else most


def _matches(pattern: re.Pattern[str], reply: FreshReply) -> bool:
    return pattern.search(reply.text) is not None


def _approves(function: Callable[[str, str], bool], reply: FreshReply) -> bool:
    return bool(function(reply.prompt, reply.text))


def _stating(criterion: CriterionSettings) -> re.Pattern[str] | None:
    if criterion.limit_pattern is None:
        return None
    pattern = _compiled(criterion, criterion.limit_pattern)
    if pattern.groups != 1:
        raise WrongSetting(f"Criterion {criterion.name}: limit_pattern needs one group, which matches the number.")
    return pattern


def _compiled(criterion: CriterionSettings, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE if criterion.type == "word_limit" else 0)
    except re.error as error:
        raise WrongSetting(f"Criterion {criterion.name}: {pattern!r} is no regular expression: {error}.") from error


def _imported(criterion: CriterionSettings, path: str) -> Callable[[str, str], bool]:
    module, _, name = path.partition(":")
    try:
        found: Callable[[str, str], bool] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise WrongSetting(
            f"Criterion {criterion.name}: {path} cannot be imported ({error}); it must be MODULE:FUNCTION."
        ) from error
    return found
