"""What people ask of adapters: which there are, and moving traffic by hand."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlmodel import Session, col, select

from ingest.database import Database
from serving import releases
from serving.trust import Untrusted, check_sealed
from trainer.tables import Adapter, Release

State = Literal["live", "pending", "previous", "candidate", "sealed"]
_LOOK_EVERY_S = 0.2


class Refused(Exception):
    """Cannot be done as it was asked; the message says what to do next."""


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """An adapter as `whetstone adapters list` shows it."""

    name: str
    task: str
    state: State
    parent: str
    round_id: int
    sealed_at: datetime
    path: str
    tainted_at: datetime | None

    def plain(self) -> dict[str, str | int | None]:
        """As JSON can hold it."""
        return {
            "name": self.name,
            "task": self.task,
            "state": self.state,
            "parent": self.parent,
            "round_id": self.round_id,
            "sealed_at": self.sealed_at.isoformat(),
            "path": self.path,
            "tainted_at": self.tainted_at.isoformat() if self.tainted_at else None,
        }


def list_rows(database: Database, tasks: Sequence[str]) -> list[AdapterRow]:
    """Every adapter of these tasks, by task, the newest first."""
    with database.read() as session:
        adapters = session.exec(select(Adapter).order_by(col(Adapter.task), col(Adapter.round_id).desc())).all()
        states = releases.read_all(tasks, session.exec(select(Release)).all(), adapters)
    return [
        AdapterRow(a.name, a.task, _state(a, states[a.task]), a.parent, a.round_id, a.sealed_at, a.path, a.tainted_at)
        for a in adapters
        if a.task in states
    ]


def ask_promotion(session: Session, name: str, tasks: Collection[str], by: str, now: datetime) -> Release:
    """Want this adapter to answer its task.

    Raises:
        Refused: there is no such adapter, its task is none of `tasks`, it is tainted, its files are not what was sealed, or it
            answers already.
    """
    adapter = session.get(Adapter, name)
    if adapter is None:
        raise Refused(f"There is no adapter {name!r}. `whetstone adapters list` shows every one.")
    if adapter.task not in tasks:
        raise Refused(f"{name} is for the task {adapter.task!r}, which the settings do not have. Add it to whetstone.toml.")
    if adapter.tainted_at:
        raise Refused(
            f"{name} was trained on what a user wrote who was erased since, or on top of such an adapter: promote another."
        )
    try:
        check_sealed(adapter)
    except Untrusted as error:
        raise Refused(f"{name} cannot be trusted: {error} Restore its directory from a copy, or promote another.") from error
    state = _releases_of(session, adapter.task)
    if state.live == name and state.pending is None:
        raise Refused(f"{name} answers {adapter.task} already.")
    return _want(session, _release(adapter.task, name, "promote", by, now))


def ask_rollback(session: Session, task: str, tasks: Collection[str], by: str, now: datetime) -> Release:
    """Want what answered the task before; asked twice, it goes back two steps.

    Raises:
        Refused: there is no such task, or the base model answers already.
    """
    if task not in tasks:
        raise Refused(f"There is no task {task!r}. Tasks: {', '.join(tasks) or 'none'}.")
    state = _releases_of(session, task)
    if state.previous is None:
        raise Refused(f"The base model answers {task!r} already; there is nothing to go back to.")
    return _want(session, _release(task, state.previous, "rollback", by, now))


def wait_until_live(database: Database, release: Release, timeout_s: float) -> bool:
    """True once traffic has moved to the release or to a newer one; False when that took too long."""
    deadline = time.monotonic() + timeout_s
    while True:
        with database.read() as session:
            at_least = select(Release).where(Release.task == release.task, col(Release.id) >= release.id)
            if any(row.live_at for row in session.exec(at_least)):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_EVERY_S)


def _releases_of(session: Session, task: str) -> releases.TaskReleases:
    adapters = session.exec(select(Adapter).where(Adapter.task == task)).all()
    return releases.read_all([task], session.exec(select(Release).where(Release.task == task)).all(), adapters)[task]


def _release(task: str, adapter: str, reason: str, by: str, now: datetime) -> Release:
    return Release(id=None, task=task, adapter=adapter, reason=reason, asked_by=by, created_at=now, live_at=None)


def _want(session: Session, release: Release) -> Release:
    session.add(release)
    session.flush()
    return release


def _state(adapter: Adapter, task: releases.TaskReleases) -> State:
    match adapter.name:
        case task.live:
            return "live"
        case name if task.pending and task.pending.adapter == name:
            return "pending"
        case task.previous:
            return "previous"
    return "candidate" if adapter.wanted else "sealed"
