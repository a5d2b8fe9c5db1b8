"""A database with one pairing worker in this process, fed through an event log in memory."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from sqlmodel import SQLModel, select

from ingest.database import Database
from ingest.events import Event
from ingest.log import NewRecord
from ingest.settings import ErasureSettings, HoldoutSettings, PairingSettings, Settings, TaskPairingSettings, TaskSettings
from pairing.ballots import Ballot
from pairing.outcomes import Outcome
from pairing.ratings import Rating
from pairing.standing import behind, of_events, of_ratings, standings
from pairing.tables import DeadLetter, Pair, RatedReply, StoredEvent, StoredRating, StoredVote
from pairing.worker import Worker
from tests.services.feedback import TASK, record
from tests.standins.log import MemoryLog


def settings_for(
    rules: TaskPairingSettings | None = None, batch_events: int = 2_000, tasks: Sequence[str] = (TASK,), key: str = "a key"
) -> Settings:
    """Settings without a file; only what pairing reads."""
    return Settings.model_construct(
        tasks={task: TaskSettings(pairing=rules or TaskPairingSettings()) for task in tasks},
        holdout=HoldoutSettings(key=SecretStr(key)),
        erasure=ErasureSettings(key=SecretStr(key)),
        pairing=PairingSettings(batch_events=batch_events, poll_s=0.001),
    )


@dataclass
class Ledger:
    """What a worker made of events."""

    database: Database
    settings: Settings
    log: MemoryLog

    def add(self, *events: Event) -> "Ledger":
        """Append the events, and let a worker read to the end."""
        return self.add_records([record(event) for event in events])

    def add_records(self, records: Sequence[NewRecord]) -> "Ledger":
        self.log.append(records).result()
        with contextlib.closing(Worker(self.settings, self.database, self.log, "one")) as worker:
            for _ in range(2 + len(records) // self.settings.pairing.batch_events):
                worker.turn()
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """Chosen and rejected texts, sorted."""
        return sorted((text(pair.chosen), text(pair.rejected)) for pair in self.rows())

    def pair(self) -> Pair:
        """The only pair."""
        [pair] = self.rows()
        return pair

    def rows(self) -> Sequence[Pair]:
        with self.database.read() as session:
            return session.exec(select(Pair)).all()

    def outcome(self, event_id: str) -> Outcome:
        return Outcome(everything(self.database)["outcomes"][TASK, event_id])

    def behind(self) -> set[str]:
        """The events behind the only pair."""
        return set(everything(self.database)["pairs"][self.pair().id]["events"])

    def dead(self) -> list[DeadLetter]:
        with self.database.read() as session:
            return list(session.exec(select(DeadLetter)).all())


def everything(database: Database) -> Mapping[str, Any]:
    """All that follows from the events, to be compared: pairs with their events, and each event's outcome."""
    with database.read() as session:
        votes = {Ballot(*(getattr(vote, name) for name in Ballot._fields)) for vote in session.exec(select(StoredVote)).all()}
        by_task = {task: {vote for vote in votes if vote.task == task} for task in {vote.task for vote in votes}}
        stand = {
            (task, id_): outcome
            for task, of in by_task.items()
            for id_, outcome in of_events(standings(session, task, of)).items()
        }
        rated = {Rating(*(getattr(one, name) for name in Rating._fields)) for one in session.exec(select(StoredRating)).all()}
        for task in {one.task for one in rated}:
            ratings = of_ratings(session, task, {one for one in rated if one.task == task})
            stand |= {(task, id_): outcome for id_, outcome in ratings.items()}
        outcomes = {(one.task, one.event_id): one.outcome for one in session.exec(select(StoredEvent)).all()}
        return {
            "pairs": {
                pair.id: pair.model_dump(exclude={"created_at"})
                | {"events": sorted(behind(session, pair.task, [pair.replies])[pair.replies])}
                for pair in session.exec(select(Pair)).all()
            },
            "outcomes": {key: stand[key].value if outcome == Outcome.VOTED else outcome for key, outcome in outcomes.items()},
            "examples": {
                (one.task, one.prompt_hash, one.reply): one.net > 0
                for one in session.exec(select(RatedReply)).all()
                if one.net and not one.paired
            },
            "dead": sorted((letter.id, letter.reason) for letter in session.exec(select(DeadLetter)).all()),
        }


def text(reply: str) -> str:
    """What a reply in canonical JSON says."""
    value = json.loads(reply)
    return value if isinstance(value, str) else value["content"]


@contextlib.contextmanager
def ledger(url: str = "sqlite://", settings: Settings | None = None) -> Iterator[Ledger]:
    """An empty ledger in the database."""
    database = Database(url)
    SQLModel.metadata.create_all(database.engine)
    try:
        yield Ledger(database, settings or settings_for(), MemoryLog())
    finally:
        database.close()
