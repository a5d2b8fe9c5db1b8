"""Dead letters go through again, after a fix: those that are events now are stored as a worker stores them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from ingest.database import Database
from ingest.erasure import tombstone
from ingest.log import SEALED, Record
from ingest.settings import Settings
from pairing.decoding import decode
from pairing.holdout import Splitter, keep_holdout, splitter
from pairing.opening import opened_in
from pairing.outcomes import DeadReason
from pairing.store import leave, store
from pairing.tables import DeadLetter, Offset
from pairing.tombstones import Known, keep_erasure_key, keep_removals_out, loss

_AT_ONCE = 500
_ATTEMPTS = 5
"""A worker may be storing the same event at this moment."""


@dataclass(slots=True)
class Replayed:
    """What became of dead letters."""

    events: list[str] = field(default_factory=list)
    """Ids of letters that are events now, or say what an event says that is there."""
    stayed: list[DeadLetter] = field(default_factory=list)


def replay(database: Database, settings: Settings, letter_ids: Sequence[str]) -> Replayed:
    """Read the letters again. Each stays, or is an event and no letter any more, in one transaction: never both or neither.

    Raises:
        HoldoutChanged: the holdout key or share is another than before.
        ErasureKeyChanged: the erasure key is.
        WrongSetting: one of these keys is missing.
    """
    split, replayed = splitter(settings.holdout), Replayed()
    for ids in _parts(sorted(set(letter_ids))):
        stayed = _again(database, settings, split, ids)
        replayed.stayed += stayed
        replayed.events += sorted(set(ids) - {letter.id for letter in stayed})
    return replayed


def _again(database: Database, settings: Settings, split: Splitter, ids: Collection[str]) -> list[DeadLetter]:
    failures = 0
    while True:
        try:
            with database.begin() as session:
                keep_removals_out(session)
                keep_holdout(session, settings.holdout)
                keep_erasure_key(session, settings.erasure)
                return _through(session, settings, split, ids)
        except IntegrityError:
            failures += 1
            if failures == _ATTEMPTS:
                raise


def _through(session: Session, settings: Settings, split: Splitter, ids: Collection[str]) -> list[DeadLetter]:
    """Those that are no events still. They were deleted too, and storing wrote them again, with what is wrong today."""
    these = col(DeadLetter.id).in_(ids)
    letters = session.exec(select(DeadLetter).where(these).with_for_update()).all()
    records = opened_in(session, [_record(letter) for letter in letters])
    session.expunge_all()  # the same ids may come back with other words
    session.connection().execute(delete(DeadLetter).where(these))
    for task, fresh in store(session, decode(records, split), _known(session, settings)).items():
        leave(session, fresh, task in settings.tasks, datetime.now(UTC))
    return list(session.exec(select(DeadLetter).where(these).order_by(DeadLetter.id)).all())


def _known(session: Session, settings: Settings) -> Known:
    """As the worker knows it that read the letters."""
    log_id = session.exec(select(Offset.log_id)).first() or ""
    return Known(tombstone(settings.erasure), log_id, loss(settings, settings.log == "embedded"))


def _record(letter: DeadLetter) -> Record:
    """As it came, but for its key and most headers, which nobody reads here."""
    headers = (SEALED,) if letter.reason == DeadReason.UNREADABLE else ()
    return Record(letter.partition, letter.offset, round(letter.received_at.timestamp() * 1000), b"", letter.value, headers)


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
