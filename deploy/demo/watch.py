"""What the loop did so far, read where the loop keeps it: its database and its round's folder."""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, func, select

from ingest.database import Database
from ingest.events import GenerationEvent, event_adapter
from ingest.settings import Settings
from pairing.tables import Pair, StoredEvent
from trainer.tables import Adapter, Release, Round


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a round's child process is."""

    phase: str
    step: int
    steps: int


class Watch:
    """One task, seen from outside."""

    def __init__(self, settings: Settings, task: str) -> None:
        self._database = Database(settings.database_url)
        self._rounds = settings.rounds_dir
        self._task = task

    def close(self) -> None:
        self._database.close()

    def pairs(self) -> dict[str, int]:
        """Pairs by source, held-out ones included."""
        query = select(Pair.source, func.count()).where(Pair.task == self._task).group_by(Pair.source)
        with self._database.read() as session:
            return dict(session.exec(query).all())

    def training_pairs(self) -> int:
        query = select(func.count()).select_from(Pair).where(Pair.task == self._task, Pair.split == "train")
        with self._database.read() as session:
            return session.exec(query).one()

    def round(self) -> Round | None:
        """The first round: the demo tells the story of one."""
        query = select(Round).where(Round.task == self._task).order_by(col(Round.number))
        with self._database.read() as session:
            return session.exec(query).first()

    def release(self, adapter: str) -> Release | None:
        """The release that moved traffic to the adapter, once it did."""
        query = select(Release).where(Release.adapter == adapter, col(Release.live_at).is_not(None))
        with self._database.read() as session:
            return session.exec(query).first()

    def progress(self, name: str) -> Progress | None:
        try:
            told = json.loads((self._rounds / name / "progress.json").read_text())
        except FileNotFoundError:
            return None
        return Progress(told["phase"], told["step"], told["steps"])

    def last_event_at(self, name: str) -> datetime:
        """When the last event behind the round's pairs happened, by its manifest."""
        return datetime.fromisoformat(json.loads((self._rounds / name / "manifest.json").read_text())["last_event_at"])

    def first_reply_by(self, adapter: str, since: datetime) -> datetime | None:
        """When the adapter first answered somebody, by the recorded generations."""
        query = (
            select(StoredEvent.body)
            .where(StoredEvent.task == self._task, StoredEvent.type == "generation", StoredEvent.occurred_at >= since)
            .order_by(col(StoredEvent.occurred_at))
        )
        with self._database.read() as session:
            events = map(event_adapter.validate_json, session.exec(query))
            return next((e.occurred_at for e in events if _is_traffic_by(e, adapter)), None)

    def want(self, adapter: str) -> None:
        """Have a refused adapter loaded again, without traffic, so that it can be judged."""
        with self._database.begin() as session:
            session.get_one(Adapter, adapter).wanted = True


def _is_traffic_by(event: object, adapter: str) -> bool:
    return isinstance(event, GenerationEvent) and event.purpose == "traffic" and event.adapter == adapter
