"""Whatever the order, the repetitions, the batches, the workers and the moments at which they die: what the plain model says."""

import contextlib
import gc
import os
import shutil
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

from ingest.database import Database
from ingest.events import Event
from ingest.settings import Settings
from pairing import scope
from pairing.worker import Worker
from tests.services.feedback import choice, record, ref
from tests.services.histories import SETTINGS, WORLD, events
from tests.services.ledger import settings_for
from tests.services.plain import assert_as_the_model_says
from tests.services.workers import is_done
from tests.standins.log import MemoryLog
from tests.standins.shaky import Crash, ShakyDatabase

NAMES = ("one", "two", "three")
MOST_TURNS = 300
WORKERS, PAIRS, MOMENTS = st.sampled_from(NAMES), st.permutations(NAMES).map(lambda names: names[:2]), st.integers(1, 30)
ASKED = st.sampled_from(["g0", "g1", "g2", "g3"])
MORE = st.lists(events(), max_size=6)


class Place:
    """Where a worker of this name runs, while it does."""

    def __init__(self, name: str, url: str, log: MemoryLog) -> None:
        self.name = name
        self.database = ShakyDatabase(url)
        self.worker: Worker | None = None
        self.settings: Settings | None = None
        self._log = log

    def start(self, settings: Settings) -> None:
        """Start a worker, unless one runs, be it with other settings."""
        if self.worker is None:
            self.worker, self.settings = Worker(settings, self.database, self._log, self.name), settings

    def turn(self, settings: Settings) -> None:
        """One turn; of a worker that starts, if none runs. What is locked is left for later, as the loop around a worker does."""
        with contextlib.suppress(OperationalError):
            self.start(settings)
            assert self.worker
            self.worker.turn()

    def turn_until(self, settings: Settings, moment: int, act: Callable[[], None]) -> None:
        """One turn in the middle of which something is done. If that is the worker's end, its partitions wait for it."""
        self.database.at(moment, act)
        try:
            self.turn(settings)
        except Crash:
            self.worker = None
        finally:
            self.database.at(None, act)

    def leave(self) -> None:
        """Its partitions go to the others, whether it ends cleanly or had died."""
        if self.worker:
            self.worker.close()
        self.worker = None
        self._log.leave(self.name)


class Workers(RuleBasedStateMachine):
    """Up to three workers, in one thread, over one log in memory and one real database."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.log = MemoryLog()
        self.places = {name: Place(name, url, self.log) for name in NAMES}
        self.sent: list[Event] = []
        self.settings = settings_for()

    @initialize(settings=SETTINGS, asked=st.sampled_from([True, True, True, False]), few=st.sampled_from([scope.FEW, 1, 0]))
    def begin(self, settings: Settings, asked: bool, few: int) -> None:
        self.settings, scope.FEW = settings, few
        if asked:
            self.append(WORLD)

    @rule(sent=st.lists(events(), min_size=1, max_size=8))
    def append(self, sent: Sequence[Event]) -> None:
        self.sent += sent
        self.log.append([record(one) for one in sent]).result()

    @rule(data=st.data())
    def append_again(self, data: st.DataObject) -> None:
        if self.sent:
            self.append(data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=4)))

    @rule(name=WORKERS, id_=ASKED, picks=st.lists(st.integers(0, 1), min_size=2, max_size=3))
    def come_to_another_opinion(self, name: str, id_: str, picks: Sequence[int]) -> None:
        """One person's choices, one after the other, with time between them to be counted."""
        for pick in picks:
            at = len(self.sent)
            self.append([choice(f"opinion-{at}", ref(id_, pick), ref(id_), ref(id_, 1), at=at)])
            self.places[name].turn(self.settings)

    @rule(name=WORKERS)
    def take_a_turn(self, name: str) -> None:
        self.places[name].turn(self.settings)

    @rule(name=WORKERS, starts=st.booleans(), sent=MORE, moment=MOMENTS)
    def die(self, name: str, starts: bool, sent: Sequence[Event], moment: int) -> None:
        def crash() -> None:
            raise Crash

        self.append(sent)
        if not starts:
            self.places[name].start(self.settings)
        self.places[name].turn_until(self.settings, moment, crash)

    @rule(names=PAIRS, joins=st.booleans(), sent=MORE, moment=MOMENTS)
    def be_overtaken(self, names: Sequence[str], joins: bool, sent: Sequence[Event], moment: int) -> None:
        """Another worker reads in the middle of this one's turn; if it joins only then, also what this one has just read."""
        name, other = names
        self.append(sent)
        for one in names[:1] if joins else names:
            self.places[one].start(self.settings)
        self.places[name].turn_until(self.settings, moment, lambda: self.places[other].turn(self.settings))

    @rule(name=WORKERS)
    def leave(self, name: str) -> None:
        self.places[name].leave()

    @rule(settings=SETTINGS, names=st.sets(WORKERS, min_size=1))
    def start_again_with_other_settings(self, settings: Settings, names: Set[str]) -> None:
        """These end, and start with the new settings when it is their turn; the others have the old ones still."""
        for name in sorted(names):
            self.places[name].leave()
        self.settings = settings

    @rule()
    def read_to_the_end(self) -> None:
        """Those that died do not come back, those with old settings end, and the others get through the log."""
        for place in self.places.values():
            if place.worker is None or place.settings is not self.settings:
                place.leave()
        running = [place for place in self.places.values() if place.worker] or [self.places["one"]]
        for _ in range(MOST_TURNS):
            for place in running:
                place.turn(self.settings)
            if is_done(self.places["one"].database, self.log):
                break
        assert is_done(self.places["one"].database, self.log), "the workers did not get through the log"
        assert_as_the_model_says(self.places["one"].database, self.sent, self.settings)

    def teardown(self) -> None:
        try:
            self.read_to_the_end()
        finally:
            for place in self.places.values():
                place.leave()
                place.database.close()


def run(examples: int, empty: Callable[[], contextlib.AbstractContextManager[str]]) -> None:
    """Try so many courses of events, each on an empty database."""

    class OnEmpty(Workers):
        def __init__(self) -> None:
            gc.collect()
            gc.freeze()  # each new worker collects garbage, and nothing that was there before is any
            self.stack = contextlib.ExitStack()
            super().__init__(self.stack.enter_context(empty()))

        def teardown(self) -> None:
            with self.stack:
                super().teardown()

    tried = settings(
        max_examples=examples, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    few = scope.FEW
    try:
        run_state_machine_as_test(OnEmpty, settings=tried)
    finally:
        gc.unfreeze()
        scope.FEW = few


@pytest.mark.parametrize("examples", [28, pytest.param(3_000, marks=pytest.mark.long)])
def test_on_sqlite_any_course_of_events_ends_as_the_plain_model_says(tmp_path: Path, examples: int) -> None:
    made = tmp_path / "empty.db"
    with contextlib.closing(Database(f"sqlite:///{made}")) as database:
        SQLModel.metadata.create_all(database.engine)

    @contextlib.contextmanager
    def empty() -> Iterator[str]:
        file = tmp_path / f"{os.urandom(8).hex()}.db"
        shutil.copy(made, file)
        yield f"sqlite:///{file}"
        for left in tmp_path.glob(f"{file.name}*"):
            left.unlink()

    run(examples, empty)


@pytest.mark.parametrize("examples", [10, pytest.param(1_000, marks=pytest.mark.long)])
def test_on_postgresql_any_course_of_events_ends_as_the_plain_model_says(on_postgres: str, examples: int) -> None:
    tables = ", ".join(f'"{name}"' for name in SQLModel.metadata.tables)
    with contextlib.closing(Database(on_postgres)) as database:
        SQLModel.metadata.create_all(database.engine)

        @contextlib.contextmanager
        def empty() -> Iterator[str]:
            with database.begin() as session:
                session.connection().exec_driver_sql(f"TRUNCATE {tables} CASCADE")
            yield on_postgres

        run(examples, empty)
