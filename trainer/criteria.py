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


Check = Callable[[FreshReply], bool]


def checks(criteria: Sequence[CriterionSettings]) -> dict[str, Check]:
    """The check of each criterion, by its name.

    Raises:
        WrongSetting: a criterion lacks what its type needs, or names a function that cannot be imported.
    """
    return {criterion.name: _check(criterion) for criterion in criteria}


def words_in(text: str) -> int:
    """Words as a person counts them: what white space parts."""
    return len(text.split())


def _check(criterion: CriterionSettings) -> Check:
    match criterion.type:
        case "word_limit" if criterion.limit_pattern or criterion.max_words:
            return partial(_within_limit, criterion)
        case "regex" if criterion.pattern:
            return partial(_matches, _compiled(criterion, criterion.pattern))
        case "python" if criterion.function:
            return partial(_says, _imported(criterion, criterion.function))
    needs = {"word_limit": "max_words or limit_pattern", "regex": "pattern", "python": "function"}[criterion.type]
    raise WrongSetting(f"Criterion {criterion.name} is of type {criterion.type} and needs {needs}.")


def _within_limit(criterion: CriterionSettings, reply: FreshReply) -> bool:
    """A reply that was cut off counts as over: nobody knows how long it would have become."""
    stated = re.search(criterion.limit_pattern, reply.prompt, re.IGNORECASE) if criterion.limit_pattern else None
    limit = int(stated.group(1)) if stated else criterion.max_words
    return limit is None or (not reply.cut_off and words_in(reply.text) <= limit)


def _matches(pattern: re.Pattern[str], reply: FreshReply) -> bool:
    return pattern.search(reply.text) is not None


def _says(function: Callable[[str, str], bool], reply: FreshReply) -> bool:
    return bool(function(reply.prompt, reply.text))


def _compiled(criterion: CriterionSettings, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
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
