"""Pure reading of releases: what answers a task, what stands behind it, which adapters must be loaded."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from trainer.tables import BASE, Adapter, Release


@dataclass(frozen=True, slots=True)
class TaskReleases:
    """The releases of one task, read."""

    live: str
    previous: str | None  # what a rollback returns to; None: the base model answers already
    pending: Release | None  # wanted, not yet live


def read(releases: Iterable[Release], tainted: Collection[str] = ()) -> TaskReleases:
    """Read the releases of one task.

    A release that was never live counts for nothing once a newer one exists. A rollback returns to what answered before, so
    that two rollbacks go back two steps; to a tainted adapter nothing returns.
    """
    ordered = sorted(releases, key=_id)
    answered: list[str] = [BASE]
    for release in ordered:
        if release.live_at:
            _advance(answered, release)
    newest = ordered[-1] if ordered else None
    return TaskReleases(
        live=answered[-1],
        previous=next((name for name in reversed(answered[:-1]) if name not in tainted), None),
        pending=newest if newest and not newest.live_at else None,
    )


def read_all(tasks: Iterable[str], releases: Sequence[Release], adapters: Iterable[Adapter]) -> dict[str, TaskReleases]:
    """By task, its releases; every task of `tasks` is there, also one without a release."""
    tainted = {adapter.name for adapter in adapters if adapter.tainted_at}
    return {task: read((r for r in releases if r.task == task), tainted) for task in tasks}


def kept(tasks: Iterable[TaskReleases], adapters: Iterable[Adapter]) -> frozenset[str]:
    """The adapters that rollout keeps loaded: live, pending, one step back, and candidates to be judged."""
    named = {name for task in tasks for name in (task.live, task.previous, task.pending and task.pending.adapter)}
    wanted = {adapter.name for adapter in adapters if adapter.wanted}
    return frozenset(name for name in named | wanted if name and name != BASE)


def _advance(answered: list[str], release: Release) -> None:
    if release.reason in ("rollback", "taint") and release.adapter in answered:
        while answered[-1] != release.adapter:
            answered.pop()
    elif answered[-1] != release.adapter:
        answered.append(release.adapter)


def _id(release: Release) -> int:
    return release.id or 0
