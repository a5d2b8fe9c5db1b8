"""Pairing workers that are killed at random moments under load: the pairs are those that the plain model says."""

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from ingest.database import Database
from ingest.events import Event
from ingest.log.embedded import EmbeddedLog
from tests.services.feedback import everyone
from tests.services.kafka import Broker
from tests.services.log_places import KafkaPlace, place
from tests.services.plain import assert_as_the_model_says
from tests.services.workers import WorkerProcess, append, position, settings_of_workers, wait_until, wait_until_done, workers

VISITS_A_KILL = 60
TWENTY_OR_A_HUNDRED = [20, pytest.param(100, marks=pytest.mark.long)]


def shares(kills: int) -> list[list[Event]]:
    """What is sent before each kill, and after the last one."""
    sent = everyone(kills * VISITS_A_KILL, seed=kills)
    return [sent[number :: kills + 1] for number in range(kills + 1)]


@contextlib.contextmanager
def tables(url: str) -> Iterator[Database]:
    with contextlib.closing(Database(url)) as database:
        SQLModel.metadata.create_all(database.engine)
        yield database


@pytest.mark.parametrize("kills", TWENTY_OR_A_HUNDRED)
def test_one_worker_on_the_embedded_log_may_be_killed_at_any_moment(kills: int, tmp_path: Path) -> None:
    url, chance = f"sqlite:///{tmp_path}/whetstone.db", random.Random(kills)
    *before_kills, rest = sent = shares(kills)
    log, database = EmbeddedLog(tmp_path / "log.db", 4), tables(url)
    with contextlib.closing(log), database as kept, workers(tmp_path, url, "one", "two") as (reads, stands_by):
        reads.start()
        for share in before_kills:
            start = position(kept)
            stands_by.start()  # while the other one reads: starting takes longer than working
            append(log, share)
            wait_until(lambda start=start: position(kept) > start, [reads])  # type: ignore[misc]  # mypy types no defaults
            time.sleep(chance.random() * 0.3)
            reads.kill()
            reads, stands_by = stands_by, reads
        append(log, rest)
        wait_until_done(kept, log, [reads])
        assert reads.end() == 0
        assert_as_the_model_says(kept, [event for share in sent for event in share], settings_of_workers())


@pytest.mark.parametrize("kills", TWENTY_OR_A_HUNDRED)
def test_three_workers_on_kafka_may_join_leave_and_be_killed_at_any_moment(
    kills: int, tmp_path: Path, on_postgres: str, apache: Broker
) -> None:
    chance = random.Random(kills)
    *before_kills, rest = sent = shares(kills)
    here, names = place(apache, tmp_path), ("one", "two", "three")
    assert isinstance(here, KafkaPlace)
    with tables(on_postgres) as database:
        with contextlib.closing(here.open(6)) as log, workers(tmp_path, on_postgres, *names, **here.environment) as group:
            for number, share in enumerate(before_kills):
                join(group, chance, all_of_them=number % 3 != 2)
                start = position(database)
                append(log, share)
                wait_until(lambda start=start: position(database) > start)  # type: ignore[misc]  # mypy types no defaults
                wait_until(lambda: any(one.reads for one in group))
                time.sleep(chance.random() * 0.3)
                one, *others = chance.sample([one for one in group if one.reads], k=sum(one.reads for one in group))
                one.kill()
                if others and number % 6 == 5:
                    others[0].end()
            append(log, rest)
            join(group, chance, all_of_them=True)
            wait_until_done(database, log, group)
        assert_as_the_model_says(database, [event for share in sent for event in share], settings_of_workers())


def join(group: Sequence[WorkerProcess], chance: random.Random, all_of_them: bool) -> None:
    """Start those that do not run, or one of them."""
    away = [one for one in group if not one.running]
    for one in away if all_of_them else [chance.choice(away)]:
        one.start()
