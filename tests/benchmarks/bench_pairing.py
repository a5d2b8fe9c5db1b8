"""How many events a second one worker turns into stored events and pairs, against one that only decodes.

    python -m tests.benchmarks.bench_pairing [VISITS]

Prints a line of JSON for SQLite and one for PostgreSQL. One CPU core does the work in both.
"""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import pytest

from ingest.log import NewRecord, Record
from pairing.decoding import decode
from tests.services.feedback import crowd, record
from tests.services.ledger import ledger
from tests.services.postgres import postgres


def measure(name: str, url: str, records: Sequence[NewRecord]) -> None:
    """One go through all records, from an empty database."""
    with ledger(url) as empty:
        started = time.perf_counter()
        empty.add_records(records)
        paired_s = time.perf_counter() - started
        pairs = len(empty.rows())
    started = time.perf_counter()
    decode(Record(0, number, 0, one.key, one.value, ()) for number, one in enumerate(records))
    decoded_s = time.perf_counter() - started
    figures = {
        "database": name,
        "events": len(records),
        "bytes_per_event": sum(len(one.value) for one in records) // len(records),
        "pairs": pairs,
        "events_per_s": round(len(records) / paired_s),
        "times_decoding": round(paired_s / decoded_s, 1),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


@contextlib.contextmanager
def databases() -> Iterator[dict[str, str]]:
    """A file of SQLite and, where it is installed, a PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        urls = {"sqlite": f"sqlite:///{directory}/bench.db"}
        with contextlib.suppress(pytest.skip.Exception):
            urls["postgresql"] = stack.enter_context(postgres())
        yield urls


if __name__ == "__main__":
    sent = [record(event) for event in crowd(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000)]
    with databases() as urls:
        for name, url in urls.items():
            measure(name, url, sent)
