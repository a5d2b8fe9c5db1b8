"""Scores of a reply, by the task's criteria. Pure, but for a Python function that the settings name.

A score goes from 0 (bad) to 1 (good), and an empty reply has none above 0: saying nothing keeps every limit. A judge compares
several replies to one prompt and so is not among these: see `trainer.judge`.
"""

import importlib
import json
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, NoReturn

import regex  # type: ignore[import-untyped]  # has no types

from ingest.settings import CriterionSettings, WrongSetting
from trainer.errors import CriterionFailed

logger = logging.getLogger(__name__)

PASSED = 0.5
"""The gate counts this score and more as passed."""
_REGEX_S = 1.0
"""A text on which a pattern takes longer counts as one that it does not match. Replies are short; some patterns never end."""
_NEEDS = {
    "word_limit": "max_words or limit_pattern",
    "regex": "pattern",
    "json_schema": "json_schema",
    "python": "function",
    "judge": "judge_url, judge_model and instruction",
}


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


Scorer = Callable[[FreshReply], float]
Check = Callable[[FreshReply], bool]


def checks(criteria: Sequence[CriterionSettings]) -> dict[str, Check]:
    """Whether a reply passes each criterion, by its name, as the gate asks. Judges are left out.

    Raises:
        WrongSetting: as `scorers` does.
    """
    return {name: partial(_passes, scorer) for name, scorer in scorers(criteria).items()}


def scorers(criteria: Sequence[CriterionSettings]) -> dict[str, Scorer]:
    """The score of each criterion but judges, by its name. A scorer raises CriterionFailed where it has no answer.

    Raises:
        WrongSetting: a criterion, judges included, lacks what its type needs, or names a function that cannot be imported.
    """
    found = {criterion.name: _scorer(criterion) for criterion in criteria}
    return {name: partial(_score, scorer) for name, scorer in found.items() if scorer is not None}


def allowed_words(criteria: Sequence[CriterionSettings], reply: FreshReply) -> int:
    """Words of the reply, without those beyond its word limit: a reply that keeps to it has not lost anything."""
    limits = [_limit(_stating(one), one.max_words, reply) for one in criteria if one.type == "word_limit"]
    return min([words_in(reply.text), *(limit for limit in limits if limit is not None)])


def words_in(text: str) -> int:
    """Words as a person counts them: what white space parts."""
    return len(text.split())


def _score(scorer: Scorer, reply: FreshReply) -> float:
    return 0.0 if reply.is_empty else float(scorer(reply))


def _passes(scorer: Scorer, reply: FreshReply) -> bool:
    return scorer(reply) >= PASSED


def _scorer(criterion: CriterionSettings) -> Scorer | None:
    match criterion.type:
        case "word_limit" if criterion.limit_pattern or criterion.max_words:
            return partial(_within_limit, _stating(criterion), criterion.max_words)
        case "regex" if criterion.pattern:
            return partial(_matches, _compiled(criterion, criterion.pattern))
        case "json_schema" if criterion.json_schema is not None:
            return partial(_keeps_to, criterion.name, _schema(criterion, criterion.json_schema))
        case "python" if criterion.function:
            return partial(_asks, criterion.name, _imported(criterion, criterion.function))
        case "judge" if criterion.judge_url and criterion.judge_model and criterion.instruction:
            return None
    raise WrongSetting(f"Criterion {criterion.name} is of type {criterion.type} and needs {_NEEDS[criterion.type]}.")


def _within_limit(stating: "regex.Pattern[str] | None", most: int | None, reply: FreshReply) -> bool:
    """A reply that was cut off counts as over: nobody knows how long it would have become."""
    limit = _limit(stating, most, reply)
    return limit is None or (not reply.cut_off and words_in(reply.text) <= limit)


def _limit(stating: "regex.Pattern[str] | None", most: int | None, reply: FreshReply) -> int | None:
    """The limit that the prompt states last, or else the fixed one."""
    found = _found(stating, reply.prompt) if stating else []
    return int(found[-1]) if found and found[-1].isdecimal() else most


def _matches(pattern: "regex.Pattern[str]", reply: FreshReply) -> bool:
    try:
        return pattern.search(reply.text, timeout=_REGEX_S) is not None
    except TimeoutError:
        return bool(_gave_up(pattern))


def _found(pattern: "regex.Pattern[str]", text: str) -> list[str]:
    try:
        found: list[str] = pattern.findall(text, timeout=_REGEX_S)
    except TimeoutError:
        return _gave_up(pattern)
    return found


def _gave_up(pattern: "regex.Pattern[str]") -> list[str]:
    logger.warning("the pattern %r took over %g s on a text: it counts as not found, simplify it", pattern.pattern, _REGEX_S)
    return []


def _keeps_to(name: str, validator: Any, reply: FreshReply) -> bool:
    """Whether the whole reply is JSON, and such as the schema allows."""
    from referencing.exceptions import Unresolvable

    try:
        return bool(validator.is_valid(json.loads(reply.text, parse_constant=_refuse_constant)))
    except (ValueError, RecursionError):
        return False
    except Unresolvable:
        raise CriterionFailed(f"Criterion {name}: its json_schema refers to something outside itself: write it in.") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _schema(criterion: CriterionSettings, schema: dict[str, Any]) -> Any:
    """Never fetches anything: what the schema refers to must stand in it."""
    from jsonschema import SchemaError  # type: ignore[import-untyped]  # has no types
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]  # has no types
    from referencing.jsonschema import EMPTY_REGISTRY

    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise WrongSetting(f"Criterion {criterion.name}: json_schema is no JSON schema: {error.message}.") from error
    return kind(schema, registry=EMPTY_REGISTRY)


def _asks(name: str, function: Callable[[str, str], Any], reply: FreshReply) -> float:
    """What the function says. Its error is named by class and place: its words may hold what a user wrote."""
    try:
        said = function(reply.prompt, reply.text)
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raised = f"its function raised {type(error).__name__} at {at.filename}:{at.lineno}"
        raise CriterionFailed(f"Criterion {name}: {raised}.") from error
    if not isinstance(said, Real) or not 0 <= float(said) <= 1:  # NaN is not between them either
        returned = f"{said}" if isinstance(said, Real) else type(said).__name__
        raise CriterionFailed(f"Criterion {name}: its function returned {returned}, not True, False or a number from 0 to 1.")
    return float(said)


def _stating(criterion: CriterionSettings) -> "regex.Pattern[str] | None":
    if criterion.limit_pattern is None:
        return None
    pattern = _compiled(criterion, criterion.limit_pattern)
    if pattern.groups != 1:
        raise WrongSetting(f"Criterion {criterion.name}: limit_pattern needs one group, which matches the number.")
    return pattern


def _compiled(criterion: CriterionSettings, pattern: str) -> "regex.Pattern[str]":
    try:
        return regex.compile(pattern, regex.IGNORECASE if criterion.type == "word_limit" else 0)
    except regex.error as error:
        raise WrongSetting(f"Criterion {criterion.name}: {pattern!r} is no regular expression: {error}.") from error


def _imported(criterion: CriterionSettings, path: str) -> Callable[[str, str], Any]:
    module, _, name = path.partition(":")
    try:
        found: Callable[[str, str], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise WrongSetting(
            f"Criterion {criterion.name}: {path} cannot be imported ({error}); it must be MODULE:FUNCTION."
        ) from error
    return found
