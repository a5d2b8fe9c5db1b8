"""The scheduler process: looks at regular times whether a round is due, and keeps one child at work."""

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

from apscheduler.schedulers.blocking import BlockingScheduler
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from ingest.database import Database
from ingest.leader import open_lock
from ingest.settings import Settings
from trainer import plan
from trainer.child import give_up
from trainer.criteria import checks
from trainer.tables import Round
from trainer.trigger import Due, due

logger = logging.getLogger(__name__)

_STOP_CHILD_S = 10


class Rounds:
    """One turn after the other: see to the round at work, or open one that is due."""

    def __init__(self, settings: Settings, database: Database, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = open_lock(database, settings.run_dir, "trainer")

    def turn(self) -> None:
        """Does at most one thing, so that nothing is missed when the process dies after it."""
        try:
            if self._lock.held() and not self._child_works():
                self._next()
        except SQLAlchemyError as error:
            logger.error("the database does not answer: %s", type(error).__name__)

    def stop(self) -> None:
        """End the child, whose round is started again with the next scheduler."""
        if self._child:
            self._child.terminate()
            try:
                self._child.wait(_STOP_CHILD_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._lock.release()

    def _child_works(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _next(self) -> None:
        """Go on with an unfinished round, or open one."""
        with self._database.read() as session:
            unfinished = session.exec(select(Round).where(col(Round.state).in_(plan.UNFINISHED)).order_by(col(Round.id))).first()
        if unfinished:
            self._go_on(unfinished)
            return
        for task in self._settings.tasks:
            if self._opened(task):
                return

    def _opened(self, task: str) -> bool:
        with self._database.begin() as session:
            decision = due(plan.state_of(session, task), self._clock(), self._settings.tasks[task].trigger)
            if not isinstance(decision, Due):
                return False
            round_ = plan.open_round(session, task, self._clock())
            logger.info("%s is due: %s", round_.adapter, decision.reason)
        return True

    def _go_on(self, round_: Round) -> None:
        assert round_.id is not None
        if round_.task not in self._settings.tasks:
            return give_up(self._database, round_.id, f"The settings have no task {round_.task} any more.")
        if round_.attempts >= self._settings.trainer.max_attempts:
            return give_up(
                self._database, round_.id, f"Started {round_.attempts} times without a verdict: see the trainer's log."
            )
        if round_.state == "planned":
            with self._database.begin() as session:
                plan.publish(session, self._settings, plan.freeze(session, self._settings, round_))
        with self._database.begin() as session:
            session.get_one(Round, round_.id).attempts += 1
        self._child = subprocess.Popen([sys.executable, "-m", "trainer.child", str(round_.id)])
        logger.info("%s starts, attempt %s", round_.adapter, round_.attempts + 1)


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
