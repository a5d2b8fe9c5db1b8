"""The scheduler process: looks at regular times whether a round is due, and keeps one child at work."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

from apscheduler.schedulers.blocking import BlockingScheduler  # type: ignore[import-untyped]  # has no types
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from ingest.database import Database
from ingest.leader import open_lock
from ingest.settings import Settings
from trainer import plan
from trainer.child import give_up
from trainer.criteria import checks
from trainer.scrub import asking_gone, note_done, scrub
from trainer.scrub import due as due_to_scrub
from trainer.tables import Round
from trainer.taint import taint, waiting
from trainer.trigger import Due, due

logger = logging.getLogger(__name__)

_STOP_CHILD_S = 3
_ENVIRONMENT = {"TQDM_DISABLE": "1"}
"""Progress bars of libraries have no place among lines of JSON."""
_PAUSE_S = 5
"""After an attempt that failed; longer with each one."""


class Rounds:
    """One turn after the other: see to the round at work, or open one that is due."""

    def __init__(self, settings: Settings, database: Database, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._round_id = 0
        self._rest_until = 0.0
        self._stopped = False
        self._turning = threading.Lock()
        self._leadership = open_lock(database, settings.run_dir, "trainer")

    def turn(self) -> None:
        """Does at most one thing, so that nothing is missed when the process dies after it."""
        with self._turning:
            try:
                if not self._leads():
                    self._end_child()
                    return
                self._see_to_erasures()
                if not self._busy():
                    self._next()
            except SQLAlchemyError as error:
                logger.error("the database does not answer: %s", type(error).__name__)

    def stop(self) -> None:
        """End the child; the next scheduler starts its round again, and the attempt does not count."""
        with self._turning:
            self._stopped = True
            self._end_child()
            self._leadership.release()

    def _leads(self) -> bool:
        return not self._stopped and self._leadership.held()

    def _see_to_erasures(self) -> None:
        """Taint what was trained on what is erased now, end its rounds, and take it out of what rounds froze."""
        folder = self._settings.rounds_dir
        with self._database.read() as session:
            erased, gone = waiting(session), due_to_scrub(session)
        for task in erased:
            with self._database.begin() as session:
                taint(session, task, asking_gone(session, folder, task), self._clock())
        if erased and self._is_ended():
            self._end_child()
        for task in gone:
            with self._database.read() as session:
                all_seen = scrub(session, folder, task)
            with self._database.begin() as session:
                note_done(session, task, self._clock(), with_retention=all_seen)

    def _is_ended(self) -> bool:
        """Whether the round of the child at work is over, whatever the child thinks."""
        with self._database.read() as session:
            return self._child is not None and session.get_one(Round, self._round_id).state not in plan.UNFINISHED

    def _busy(self) -> bool:
        """Whether a child is at work, or one that failed is not to be started again yet."""
        if self._child is None:
            return time.monotonic() < self._rest_until
        if self._child.poll() is None:
            return True
        if self._child.returncode:
            logger.error("the process of round %d ended with %d", self._round_id, self._child.returncode)
            self._rest_until = time.monotonic() + _PAUSE_S * self._attempts(self._round_id)
        self._child = None
        return time.monotonic() < self._rest_until

    def _next(self) -> None:
        """Go on with an unfinished round, or open one."""
        with self._database.read() as session:
            unfinished = session.exec(select(Round).where(col(Round.state).in_(plan.UNFINISHED)).order_by(col(Round.id))).first()
        if unfinished:
            self._go_on(unfinished)
        else:
            any(self._opened(task) for task in self._settings.tasks)

    def _opened(self, task: str) -> bool:
        with self._database.read() as session:
            if plan.rests_on_erased(session, plan.live_adapter(session, task)):
                return False
            decision = due(plan.state_of(session, task), self._clock(), self._settings.tasks[task].trigger)
        if not isinstance(decision, Due):
            return False
        with self._database.begin() as session:
            round_ = plan.open_round(session, self._settings, task, self._clock())
        logger.info("%s is due: %s", round_.adapter, decision.reason)
        return True

    def _go_on(self, round_: Round) -> None:
        assert round_.id is not None
        if round_.task not in self._settings.tasks:
            return give_up(self._database, round_.id, f"The settings have no task {round_.task} any more.")
        if round_.attempts >= self._settings.trainer.max_attempts:
            why = f"Started {round_.attempts} times without a verdict: see the trainer's log."
            return give_up(self._database, round_.id, why)
        if round_.state == "planned" and not self._published(round_):
            why = "Every pair was withdrawn, or its prompt nearly repeats a held-out one: there is nothing to train on."
            return give_up(self._database, round_.id, why)
        self._start(round_.id)

    def _published(self, round_: Round) -> bool:
        """Freeze what the round is about, which may take a while: no transaction is held open meanwhile."""
        with self._database.read() as session:
            frozen = plan.freeze(session, self._settings, round_)
        with self._database.begin() as session:
            return plan.publish(session, self._settings, frozen)

    def _start(self, round_id: int) -> None:
        self._count(round_id, 1)
        self._round_id = round_id
        command = [sys.executable, "-m", "trainer.child", str(round_id)]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ | _ENVIRONMENT)
        logger.info("round %d starts, attempt %d", round_id, self._attempts(round_id))

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(_STOP_CHILD_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._count(self._round_id, -1)

    def _count(self, round_id: int, attempts: int) -> None:
        with self._database.begin() as session:
            session.get_one(Round, round_id).attempts += attempts

    def _attempts(self, round_id: int) -> int:
        with self._database.read() as session:
            return session.get_one(Round, round_id).attempts


def run(settings: Settings) -> None:
    """Look every `trainer.poll_s` until SIGTERM or SIGINT.

    Raises:
        WrongSetting: a task's criterion cannot be used.
    """
    for task in settings.tasks.values():
        checks(task.criteria)
    database = Database(settings.database_url, settings.database.pool_size)
    rounds, scheduler = Rounds(settings, database, lambda: datetime.now(UTC)), BlockingScheduler(timezone=UTC)
    scheduler.add_job(rounds.turn, "interval", seconds=settings.trainer.poll_s, max_instances=1, coalesce=True)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        scheduler.shutdown(wait=False)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        scheduler.start()
    finally:
        rounds.stop()
        database.close()
