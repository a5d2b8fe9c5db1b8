"""The rules of one task: what of its settings decides which votes follow from its events."""

from dataclasses import dataclass
from decimal import Decimal

from ingest.events import canonical, fingerprint
from ingest.settings import TaskPairingSettings, TaskSettings


@dataclass(frozen=True, slots=True)
class Criterion:
    """How far a criterion's scores count. Decimals, as in `score`."""

    name: str
    weight: Decimal
    min_margin: Decimal


@dataclass(frozen=True, slots=True)
class Rules:
    """How a task's feedback becomes votes and pairs."""

    pairing: TaskPairingSettings
    criteria: tuple[Criterion, ...] = ()  # in the order of the settings, each name once

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides: events derived by rules of another digest must be derived again."""
        criteria = [(one.name, str(one.weight), str(one.min_margin)) for one in self.criteria]
        # Defaults too: a version of Whetstone with other ones has other rules.
        return fingerprint(canonical({"pairing": self.pairing.model_dump(mode="json"), "criteria": criteria}))


def rules_of(task: TaskSettings) -> Rules:
    """The rules that a task's settings say. Of two criteria under one name the first counts."""
    criteria: dict[str, Criterion] = {}
    for one in task.criteria:
        criteria.setdefault(one.name, Criterion(one.name, Decimal(repr(one.weight)), Decimal(repr(one.min_margin))))
    return Rules(task.pairing, tuple(criteria.values()))
