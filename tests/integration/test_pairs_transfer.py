"""Import and export as people run them: processes of their own, against a real ingest over the real embedded log."""

import contextlib
import gzip
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlmodel import SQLModel, func, select
from typer.testing import CliRunner

from ingest.database import Database
from ingest.keys import create_key
from ingest.log.embedded import EmbeddedLog
from pairing.cli import pairs as commands
from pairing.formats import WRITTEN
from pairing.formats.reading import TOOL_LEVELS
from pairing.tables import DeadLetter, Mark, Offset, Pair, StoredEvent
from pairing.transfer import TransferFailed
from pairing.transfer.service import Service
from pairing.worker import Worker
from tests.services.ingest import ROOT, SERVE_WITH_PAIRS, Ingest, ingest
from tests.services.ledger import settings_for
from tests.services.ports import free_port

TASK, OTHER = "summarise", "copy"
PATIENCE_S = 60
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Ingest]:
    with serving(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    """A service that several tests use, each for a task of its own."""
    with serving(tmp_path_factory.mktemp("lasting")) as made:
        yield made


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Ingest]:
    with ingest(directory, SERVE_WITH_PAIRS) as made, database(made) as tables:
        SQLModel.metadata.create_all(tables.engine)
        made.start()
        made.wait_for("/readyz", 200)
        yield made


@contextlib.contextmanager
def database(service: Ingest) -> Iterator[Database]:
    with contextlib.closing(Database(f"sqlite:///{service.directory}/whetstone.db")) as opened:
        yield opened


def started(service: Ingest, *arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "deploy.cli", "pairs", *map(str, arguments)]
    known = {"WHETSTONE_URL": service.url, "WHETSTONE_KEY": service.key} | environment
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ran(service: Ingest, *arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Exit status and what was said, in this process."""
    known = {"WHETSTONE_URL": service.url, "WHETSTONE_KEY": service.key} | environment
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], env=known)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def paired(service: Ingest) -> None:
    """Let a pairing worker read the log to its end."""
    with (
        database(service) as tables,
        contextlib.closing(EmbeddedLog(service.directory / "log.db", 4)) as log,
        contextlib.closing(Worker(settings_for(tasks=[TASK, OTHER]), tables, log, "one")) as worker,
    ):
        deadline = time.monotonic() + PATIENCE_S
        ends = {partition: end for partition, end in log.end_offsets().items() if end}
        while not _is_done(tables, ends):
            assert time.monotonic() < deadline, "the worker did not get through the log"
            worker.turn()


def _is_done(tables: Database, ends: dict[int, int]) -> bool:
    with tables.read() as session:
        offsets = {row.partition: row.next for row in session.exec(select(Offset)).all()}
        return offsets == ends and session.exec(select(func.count()).select_from(Mark)).one() == 0


def pairs(service: Ingest, task: str = TASK) -> list[tuple[str, str | None, str, str]]:
    with database(service) as tables, tables.read() as session:
        found = session.exec(select(Pair).where(Pair.task == task)).all()
    return sorted((pair.prompt, pair.tools or "", pair.chosen, pair.rejected) for pair in found)


def ids(service: Ingest) -> set[str]:
    with database(service) as tables, tables.read() as session:
        return set(session.exec(select(Pair.id)).all())


def counts(service: Ingest) -> tuple[int, int]:
    """Events stored, and dead letters."""
    with database(service) as tables, tables.read() as session:
        stored, dead = (session.exec(select(func.count()).select_from(table)).one() for table in (StoredEvent, DeadLetter))
    return stored, dead


def write(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def plain(number: int, length: int = 1) -> dict[str, Any]:
    return {"prompt": f"Question {number}? " * length, "chosen": f"good {number}", "rejected": "bad"}


CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
CONVERSATIONS: list[dict[str, Any]] = [
    {
        "prompt": [{"role": "system", "content": "Be\u2028short.\ufeff "}, {"role": "user", "content": text}],
        "chosen": [{"role": "assistant", "content": ""}],
        "rejected": [{"role": "assistant", "content": "\r\n e\u0301\u00e9\U0001f469\u200d\U0001f467"}],
    }
    for text in ("", "one", " one", "o\u0301ne")
]
WITH_TOOLS = [
    {
        "prompt": [{"role": "user", "content": "Weather?"}],
        "chosen": [{"role": "assistant", "tool_calls": [CALL]}],
        "rejected": [{"role": "assistant", "content": "Sunny."}],
        "tools": [TOOL],
    }
]


def test_an_import_of_an_export_gives_the_same_pairs_in_every_format(service: Ingest, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [*CONVERSATIONS, *WITH_TOOLS])
    assert ran(service, "import", file, "--task", TASK)[0] == 0
    texts = write(tmp_path / "texts.jsonl", [plain(number) for number in range(3)])
    assert ran(service, "import", texts, "--task", TASK)[0] == 0
    paired(service)
    assert len(pairs(service)) == 8
    copied = set()
    for name in (*WRITTEN, "parquet", "hf"):
        if name == "trl-unpaired":
            continue
        out, report = tmp_path / f"out-{name}", tmp_path / "report.jsonl"
        status, said = ran(service, "export", "--task", TASK, "--format", name, "--out", out, "--report", report)
        refused = report.read_text().splitlines()
        assert (status, len(refused) > 0) == (3, True), said  # no format holds all of these
        read = "trl" if name in ("parquet", "hf") else name
        status, said = ran(service, "import", out, "--task", OTHER, "--format", read)
        assert (status, f"{8 - len(refused)} rows taken" in said) == (0, True), said
        copied.add(8 - len(refused))
    paired(service)
    assert copied >= {3, 4, 5}  # plain texts, conversations, conversations with tools
    assert pairs(service, OTHER) == pairs(service)
    tagged = 5  # OpenPipe's rows have a split, which makes other events of the same pairs
    assert counts(service) == (16 + tagged, 0)  # whatever other format a pair came by, it is one event of a task


def test_an_import_killed_at_any_moment_and_run_again_makes_no_doubles(service: Ingest, tmp_path: Path) -> None:
    rows = 6_000
    file = write(tmp_path / "in.jsonl", [plain(number, 20) for number in range(rows)])
    for turn in range(3):
        with started(service, "import", file, "--task", TASK) as process:
            _until_taken(service, turn * 1_500 + 1)
            process.kill()
    assert 0 < _taken(service)
    status, said = ran(service, "import", file, "--task", TASK)
    assert (status, said.strip()) == (0, "6,000 rows taken, 0 refused.")
    paired(service)
    assert counts(service) == (rows, 0)
    assert len(pairs(service)) == rows


def _taken(service: Ingest) -> int:
    with contextlib.closing(EmbeddedLog(service.directory / "log.db", 4)) as log:
        return sum(log.end_offsets().values())


def _until_taken(service: Ingest, events: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while _taken(service) < events:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_import_waits_for_a_service_that_was_killed_and_goes_on(service: Ingest, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [plain(number, 20) for number in range(15_000)])
    with started(service, "import", file, "--task", TASK) as process:
        _until_taken(service, 1_000)
        service.end(signal.SIGKILL)
        time.sleep(0.3)
        assert process.poll() is None
        service.start()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said.strip()) == (0, "15,000 rows taken, 0 refused.")
    paired(service)
    assert counts(service) == (15_000, 0)


def test_ctrl_c_ends_an_import_with_how_far_it_came(lasting: Ingest, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [plain(number, 50) for number in range(40_000)])
    with started(lasting, "import", file, "--task", "interrupted") as process:
        _until_taken(lasting, _taken(lasting) + 5_000)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert said.startswith("Stopped after line ")
    assert "Run it again: what was taken counts once." in said


def test_ctrl_c_does_not_wait_for_a_service_that_hangs(lasting: Ingest, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [plain(number, 50) for number in range(40_000)])
    assert lasting.process
    with started(lasting, "import", file, "--task", "hanging") as process:
        _until_taken(lasting, _taken(lasting) + 5_000)
        lasting.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=15)
        finally:
            lasting.process.send_signal(signal.SIGCONT)
    assert process.returncode == 130
    assert said.startswith("Stopped after line ")


def test_what_the_service_refuses_is_reported_by_line_and_the_rest_is_taken(tmp_path: Path) -> None:
    small = {"WHETSTONE_INGEST_MAX_EVENT_BYTES": "1000", "WHETSTONE_INGEST_MAX_BATCH_EVENTS": "7"}
    with ingest(tmp_path, SERVE_WITH_PAIRS, **small, WHETSTONE_INGEST_MAX_REQUEST_BYTES="3000") as service:
        service.start()
        service.wait_for("/readyz", 200)
        rows = [plain(number, 400 if number in (3, 30) else 1) for number in range(40)]
        file, report = write(tmp_path / "in.jsonl", [*rows, "no row", plain(0)]), tmp_path / "report.jsonl"
        status, said = ran(service, "import", file, "--task", TASK, "--report", report)
        assert (status, "39 rows taken, 3 refused." in said) == (3, True), said
        told = [json.loads(line) for line in report.read_text().splitlines()]
        assert [(one["line"], one["reason"]) for one in told] == [(4, "too-long"), (31, "too-long"), (41, "not-json")]
        assert _taken(service) == 39


def test_a_file_that_is_cut_short_is_taken_up_to_there(lasting: Ingest, tmp_path: Path) -> None:
    whole = gzip.compress(write(tmp_path / "in.jsonl", [plain(number, 5) for number in range(20_000)]).read_bytes())
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    before = _taken(lasting)
    status, said = ran(lasting, "import", cut, "--task", "cut-short")
    taken = int(re.search(r"([\d,]+) rows taken, 0 refused", said)[1].replace(",", ""))  # type: ignore[index]  # else it fails
    assert (status, "cut short or damaged after line" in said) == (1, True)
    assert 0 < taken < 20_000
    assert _taken(lasting) == before + taken


def test_events_that_the_service_names_are_refused_and_the_others_taken(lasting: Ingest) -> None:
    before = _taken(lasting)
    good = [event("a"), event("b", by="robot"), event("c"), event("d", occurred_at="2999-01-01T00:00:00Z")]
    with contextlib.closing(Service(lasting.url, lasting.key)) as door:
        refused = door.send([json.dumps(one).encode() for one in good])
    assert {at: (why.reason, why.detail.split(":")[0]) for at, why in refused.items()} == {
        1: ("refused-by-service", "by"),
        3: ("refused-by-service", "occurred_at"),
    }
    assert _taken(lasting) == before + 2


def event(event_id: str, **more: Any) -> dict[str, Any]:
    said = {"prompt": "p", "chosen": "a", "rejected": event_id, "occurred_at": "2020-01-01T00:00:00Z"}
    return {"type": "preference", "event_id": event_id, "task": TASK} | said | more


def test_rows_that_hold_oddities_are_taken_as_they_are_or_refused_alone(service: Ingest, tmp_path: Path) -> None:
    """Whatever passes our own reading, the service must take, or the whole import would stop for it."""

    def with_tools(tools: Any) -> dict[str, Any]:
        return WITH_TOOLS[0] | {"tools": tools}

    taken = [
        with_tools([nested(TOOL_LEVELS - 1)]),
        with_tools(json.dumps([nested(TOOL_LEVELS - 1) | {"b": 1}])),
        with_tools([{"a": 10**400, "b": -0.0, "c": 1e300, "d": "\x00\ufffe\U0010ffff"}]),
        {"prompt": "\x00", "chosen": "\u0085\u2028\U0001f469\u200d\U0001f467", "rejected": ""},
        {"prompt": "\ufeff", "chosen": "e\u0301", "rejected": "\u00e9"},
    ]
    refused = [
        with_tools([nested(TOOL_LEVELS)]),
        with_tools(json.dumps([nested(TOOL_LEVELS)])),
        with_tools('[{"name": "\\ud800"}]'),
        with_tools("[" * 5_000),
        with_tools([{"a": float("inf")}]),
    ]
    chats = write(tmp_path / "chats.jsonl", [*refused, *taken[:3]])
    texts = write(tmp_path / "texts.jsonl", [*taken[3:], {"prompt": "p", "chosen": "a", "rejected": "a"}])
    status, said = ran(service, "import", chats, "--task", TASK)
    assert (status, "3 rows taken, 5 refused." in said) == (3, True), said
    status, said = ran(service, "import", texts, "--task", TASK)
    assert (status, "2 rows taken, 1 refused." in said) == (3, True), said
    paired(service)
    assert counts(service) == (5, 0)
    (tmp_path / "elsewhere").mkdir()
    with serving(tmp_path / "elsewhere") as elsewhere:
        for name in ("openai", "fireworks-cookbook"):
            out = tmp_path / f"out-{name}"
            assert ran(service, "export", "--task", TASK, "--format", name, "--out", out)[0] == 3
            assert ran(elsewhere, "import", out, "--task", TASK)[0] == 0
        paired(elsewhere)
        assert ids(elsewhere) == ids(service)
        assert pairs(elsewhere) == pairs(service)
    assert {json.loads(chosen) for _, _, chosen, _ in pairs(service) if chosen.startswith('"')} == {
        "\u0085\u2028\U0001f469\u200d\U0001f467",
        "e\u0301",
    }


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_unpaired_examples_come_out_as_they_went_in(service: Ingest, tmp_path: Path) -> None:
    """They are ratings that carry what was said; a good and a bad reply to one prompt would become a pair."""
    asked = [f"prompt {number}" for number in range(4)]
    texts = [{"prompt": prompt, "completion": " \u2028", "label": prompt > "prompt 1"} for prompt in asked]
    chats = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": "c"}],
            "label": prompt < "prompt 2",
            "tools": [TOOL],
        }
        for prompt in asked
    ]
    rows, out = [*texts, *chats], tmp_path / "out.jsonl"
    assert ran(service, "import", write(tmp_path / "in.jsonl", [*rows, rows[0]]), "--task", TASK)[0] == 0
    paired(service)
    assert counts(service) == (8, 0)
    status, said = ran(service, "export", "--task", TASK, "--format", "trl-unpaired", "--out", out)
    assert (status, said.splitlines()[0]) == (0, "8 rows written, 0 refused.")
    exported = [json.loads(line) for line in out.read_text().split("\n") if line]
    assert sorted(exported, key=json.dumps) == sorted(rows, key=json.dumps)


def test_what_stops_an_import_is_one_sentence_that_says_what_to_do(lasting: Ingest, tmp_path: Path) -> None:
    file, before = write(tmp_path / "in.jsonl", [plain(1)]), _taken(lasting)
    with database(lasting) as tables, tables.begin() as session:
        weak = create_key(session, "weak", [TASK], ["feedback"])
        elsewhere = create_key(session, "elsewhere", [OTHER], ["preference"])
    for environment, task, advice in (
        ({"WHETSTONE_KEY": ""}, TASK, f"whetstone keys create --name transfer --scope preference --task {TASK}"),
        ({"WHETSTONE_KEY": "wsk_unknown"}, TASK, "whetstone keys create"),
        ({"WHETSTONE_KEY": weak}, TASK, f"whetstone keys create --name NAME --scope preference --task {TASK}"),
        ({"WHETSTONE_KEY": elsewhere}, TASK, "--task"),
        ({"WHETSTONE_URL": f"{lasting.url}/elsewhere"}, TASK, "WHETSTONE_URL"),
        ({"WHETSTONE_URL": "http://127.0.0.1:9"}, TASK, "WHETSTONE_URL"),
        ({"WHETSTONE_URL": "nonsense"}, TASK, "WHETSTONE_URL"),
        ({"WHETSTONE_URL": "http://[nonsense"}, TASK, "WHETSTONE_URL"),
        ({}, "No Task", "lower-case"),
    ):
        status, said = ran(lasting, "import", file, "--task", task, **environment)
        assert (status, advice in said) == (1, True), said
    assert _taken(lasting) == before


def test_what_stops_an_export_is_one_sentence_and_no_file(lasting: Ingest, tmp_path: Path) -> None:
    with database(lasting) as tables, tables.begin() as session:
        weak = create_key(session, "weak", [TASK], ["preference"])
        elsewhere = create_key(session, "elsewhere", [OTHER], ["admin"])
    for environment, advice in (
        ({"WHETSTONE_KEY": ""}, f"whetstone keys create --name transfer --scope admin --task {TASK}"),
        ({"WHETSTONE_KEY": "wsk_unknown"}, "whetstone keys create"),
        ({"WHETSTONE_KEY": weak}, f"whetstone keys create --name NAME --scope admin --task {TASK}"),
        ({"WHETSTONE_KEY": elsewhere}, "--task"),
        ({"WHETSTONE_URL": f"{lasting.url}/elsewhere"}, "WHETSTONE_URL"),
        ({"WHETSTONE_URL": "http://127.0.0.1:9"}, "Start it, or name it in WHETSTONE_URL"),
    ):
        status, said = ran(lasting, "export", "--task", TASK, "--format", "trl", "--out", tmp_path / "out", **environment)
        assert (status, advice in said, "Traceback" in said) == (1, True, False), said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ended", ["service", "export"])
def test_an_export_that_is_broken_off_leaves_nothing_and_says_so(service: Ingest, tmp_path: Path, ended: str) -> None:
    file = write(tmp_path / "in.jsonl", [plain(number, 100) for number in range(10_000)])
    assert ran(service, "import", file, "--task", TASK)[0] == 0
    paired(service)
    (tmp_path / "out").mkdir()
    place = tmp_path / "out" / "pairs.jsonl"
    with started(service, "export", "--task", TASK, "--format", "trl-standard", "--out", place) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not any(path.stat().st_size for path in place.parent.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        service.end(signal.SIGKILL) if ended == "service" else process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "none written" in said) == ({"service": 1, "export": 130}[ended], True), said
    assert "un it again" in said
    assert "Traceback" not in said
    assert list(place.parent.iterdir()) == []


def test_a_busy_service_is_asked_again_when_it_said(lasting: Ingest) -> None:
    with answering([503, 503, 202]) as (url, asked), contextlib.closing(Service(url, "wsk_any")) as door:
        assert door.send([json.dumps(event("a")).encode()]) == {}
    assert_waited_as_told(asked)


def test_a_service_that_cannot_read_its_database_is_asked_for_pairs_again_when_it_said() -> None:
    with answering([503, 503, 200]) as (url, asked), contextlib.closing(Service(url, "wsk_any")) as door:
        assert list(door.pairs({"task": TASK})) == []
    assert_waited_as_told(asked)


def test_a_question_that_makes_no_sense_is_told_by_the_name_of_what_is_wrong(lasting: Ingest) -> None:
    with contextlib.closing(Service(lasting.url, lasting.key)) as door, pytest.raises(TransferFailed, match="source: Only pairs"):
        list(door.pairs({"task": TASK, "kind": "examples", "source": "choice"}))


def test_it_is_not_asked_for_ever() -> None:
    with answering([503]) as (url, _), contextlib.closing(Service(url, "wsk_any", patience_s=-1)) as door:
        with pytest.raises(TransferFailed, match="503"):
            list(door.pairs({"task": TASK}))


def assert_waited_as_told(asked: list[float]) -> None:
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert [round(pause) for pause in pauses] == [2, 2]


@contextlib.contextmanager
def answering(statuses: list[int]) -> Iterator[tuple[str, list[float]]]:
    """A door that answers so, one after the other, with `Retry-After: 2`; and when it was asked."""
    asked: list[float] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(time.monotonic())
            self.send_response(statuses[len(asked) - 1])
            self.send_header("Retry-After", "2")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.long
def test_memory_does_not_grow_with_what_is_imported(lasting: Ingest, tmp_path: Path) -> None:
    """A hundred thousand rows of 3 KB."""
    file = tmp_path / "in.jsonl"
    with file.open("w") as rows:
        rows.writelines(json.dumps(plain(number, 170)) + "\n" for number in range(100_000))
    script = (
        "import pathlib; from pairing.cli import pairs; "
        f"\ntry: pairs(['import', {str(file)!r}, '--task', 'large'])"
        "\nexcept SystemExit as end: print(end.code, pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    environment = os.environ | {"WHETSTONE_URL": lasting.url, "WHETSTONE_KEY": lasting.key}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True, cwd=ROOT)
    code, peak_kib = ended.stdout.split()
    assert int(code) == 0
    assert int(peak_kib) < 300_000


def test_a_service_that_takes_nothing_for_long_ends_the_import() -> None:
    with contextlib.closing(Service(f"http://127.0.0.1:{free_port()}", "wsk_any", patience_s=0.1)) as door:
        with pytest.raises(TransferFailed, match="took nothing"):
            door.send([json.dumps(event("a")).encode()])
