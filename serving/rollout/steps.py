"""What rollout does next, as a pure function of what it sees."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from serving.releases import TaskReleases, kept
from trainer.tables import BASE, Adapter


@dataclass(frozen=True, slots=True)
class Answering:
    """What one living gateway says of itself."""

    routes: frozenset[str]  # adapters that it sends requests to
    in_flight: frozenset[str]  # adapters with requests not yet finished


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that the next steps depend on."""

    tasks: Mapping[str, TaskReleases]
    adapters: Sequence[Adapter]
    loaded: frozenset[str]  # in vLLM now, the base model left out
    warm: frozenset[str]  # loaded, and answered once
    gateways: Sequence[Answering]
    paused: frozenset[str]  # adapters that failed a moment ago
    overdue: frozenset[str]  # adapters not wanted any more for longer than the drain may take
    max_loaded: int


@dataclass(frozen=True, slots=True)
class Load:
    adapter: str


@dataclass(frozen=True, slots=True)
class Warm:
    adapter: str


@dataclass(frozen=True, slots=True)
class Flip:
    """Move a task's traffic to the adapter of this release."""

    release_id: int
    task: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Unload:
    adapter: str
    drained: bool


Step = Load | Warm | Flip | Unload


def plan(observed: Observed) -> list[Step]:
    """The next steps, most urgent first: what answers traffic, what shall answer it, the way back, candidates, then room.

    A later step may need an earlier one of another turn: an adapter is loaded in one turn, warmed in the next, and traffic
    moves to it in the one after that.
    """
    ready = [name for name in _by_urgency(observed) if name not in observed.paused]
    return [
        *(Load(name) for name in ready if name not in observed.loaded),
        *(Warm(name) for name in ready if name in observed.loaded and name not in observed.warm),
        *_flips(observed),
        *_unloads(observed),
    ]


def _by_urgency(observed: Observed) -> list[str]:
    states = observed.tasks.values()
    needed = [
        *(state.live for state in states),
        *(state.pending.adapter for state in states if state.pending),
        *(state.previous for state in states if state.previous),
    ]
    known = {adapter.name for adapter in observed.adapters}
    required = [name for name in dict.fromkeys(needed) if name in known]
    room = observed.max_loaded - len({*required, *observed.loaded} - _candidates(observed))
    candidates = [a for a in sorted(_candidates(observed)) if a not in required]
    # Those that are being judged already stay before others come.
    candidates.sort(key=lambda name: name not in observed.loaded)
    return required + candidates[: max(room, 0)]


def _candidates(observed: Observed) -> set[str]:
    return {adapter.name for adapter in observed.adapters if adapter.wanted}


def _flips(observed: Observed) -> Iterator[Flip]:
    for task, state in observed.tasks.items():
        release = state.pending
        if release and release.id is not None and (release.adapter == BASE or release.adapter in observed.warm):
            yield Flip(release.id, task, release.adapter)


def _unloads(observed: Observed) -> Iterator[Unload]:
    """Unload what nothing keeps and no living gateway answers with, or what has had its time to drain."""
    busy = frozenset[str]().union(*(gateway.routes | gateway.in_flight for gateway in observed.gateways))
    for name in sorted(observed.loaded - kept(observed.tasks.values(), observed.adapters) - observed.paused):
        if name not in busy or name in observed.overdue:
            yield Unload(name, drained=name not in busy)
