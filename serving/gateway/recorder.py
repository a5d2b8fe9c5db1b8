"""Puts generations into the spool as they may be kept."""

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from ingest.log import NewRecord
from ingest.redaction import Redactor
from serving.gateway.record import Identity, Writing, record
from serving.gateway.spool import Spool


class Recorder:
    """Of one process. Redaction may take a while, and runs beside the event loop; without any, nothing is waited for."""

    def __init__(self, spool: Spool, redactor: Redactor, model: str) -> None:
        self._spool = spool
        self._redactor = redactor
        self._model = model
        self._redacting = ThreadPoolExecutor(1, "redaction")

    @property
    def has_room(self) -> bool:
        return self._spool.has_room

    def put(self, identity: Identity, writing: Writing) -> "Future[None]":
        """Done when the generation is on disk; raises SpoolError or CannotRedact when it will not be. Never blocks."""
        now = datetime.now(UTC)
        if not self._redactor.needed(identity.route.task):
            return self._spool.put(record(identity, writing, self._model, now, self._redactor))
        on_disk: Future[None] = Future()
        made = self._redacting.submit(record, identity, writing, self._model, now, self._redactor)
        made.add_done_callback(lambda made: self._pass_on(made, on_disk))
        return on_disk

    def close(self) -> None:
        """Hand what is being redacted to the spool."""
        self._redacting.shutdown()

    def _pass_on(self, made: "Future[NewRecord]", on_disk: "Future[None]") -> None:
        if error := made.exception():
            on_disk.set_exception(error)
        else:
            self._spool.put(made.result()).add_done_callback(lambda written: _copy(written, on_disk))


def _copy(written: "Future[None]", on_disk: "Future[None]") -> None:
    if error := written.exception():
        on_disk.set_exception(error)
    else:
        on_disk.set_result(None)
