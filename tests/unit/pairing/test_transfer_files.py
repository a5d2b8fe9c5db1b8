"""Files as they are in the wild: read line by line, whatever is wrong with some of them."""

import gzip
import io
import json
import os
import pty
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from pairing.cli import pairs
from pairing.data_cli import _heard_ctrl_c
from pairing.formats.values import Reason, Refused, preference
from pairing.transfer import CutShort, TransferFailed
from pairing.transfer import source as sources
from pairing.transfer.source import open_source, parse
from pairing.transfer.target import open_target

ROW = {"prompt": "a", "chosen": "b", "rejected": "c"}
ROW_OF_REPLIES = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
LINE = json.dumps(ROW).encode()


def rows(place: Path) -> list[Any]:
    with open_source(str(place)) as source:
        return [line.row for line in source.lines]


def written(place: Path, content: bytes) -> Path:
    place.write_bytes(content)
    return place


def convert(*arguments: str | Path) -> Any:
    return CliRunner().invoke(pairs, ["convert", *map(str, arguments)])


@pytest.mark.parametrize(
    "content",
    [
        LINE,
        LINE + b"\n",
        b"\xef\xbb\xbf" + LINE + b"\n",
        LINE + b"\r\n\r\n",
        LINE + b"\n\n \n",
        b"\n" + LINE,
        gzip.compress(LINE),
        gzip.compress(LINE + b"\n") + gzip.compress(b"\n"),
        pyarrow.compress(b"\xef\xbb\xbf" + LINE, "zstd", asbytes=True),
        pyarrow.compress(LINE[:9], "zstd", asbytes=True) + pyarrow.compress(LINE[9:] + b"\r\n", "zstd", asbytes=True),
    ],
    ids="no-last-newline newline bom crlf blank-lines blank-first gzip gzip-members zstd zstd-frames".split(),
)
def test_what_is_around_the_rows_does_not_matter(tmp_path: Path, content: bytes) -> None:
    assert rows(written(tmp_path / "x", content)) == [ROW]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    odd = {**ROW, "prompt": "\u2028\u2029\u0085\x0b"}
    raw = json.dumps(odd, ensure_ascii=False).encode()
    assert "\u2028".encode() in raw
    assert rows(written(tmp_path / "x", raw + b"\n" + LINE)) == [odd, ROW]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1]",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"a": ' + b'{"b": [' * 100 + b"]}" * 100 + b"}",
        LINE + LINE,
        LINE.decode().encode("utf-16"),
    ],
)
def test_a_line_that_is_no_json_object_is_refused(line: bytes) -> None:
    refused = parse(line)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.NOT_JSON


def test_the_two_halves_of_a_surrogate_pair_are_one_character() -> None:
    assert parse(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_what_many_brackets_stand_side_by_side_is_not_nested() -> None:
    row = {"a": [[], {}] * 500, "b": "[{" * 500}
    assert parse(json.dumps(row).encode()) == row


def test_an_oversized_line_is_refused_and_the_next_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 1_000)
    monkeypatch.setattr(sources, "_CHUNK_BYTES", 100)
    first, second, third = rows(written(tmp_path / "x", LINE + b"\n" + b"x" * 5_000 + b"\n" + LINE))
    assert (first, third) == (ROW, ROW)
    assert second.reason is Reason.TOO_LONG


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_a_file_that_is_cut_short_is_refused_with_a_sentence(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    with open_target(str(whole), "trl-standard") as target:
        for number in range(1_000):
            target.add(preference(f"prompt {number}", "a", "b"))
    cut.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(CutShort, match=r"cut short or damaged"):
        rows(cut)
    result = convert(cut, "--to", "trl-standard", "--out", tmp_path / "out.jsonl", "--from", "trl-standard")
    assert result.exit_code == 1
    assert "cut short or damaged" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [cut.name, whole.name]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_a_damaged_file_never_ends_in_anything_but_refused_rows_or_a_sentence(tmp_path: Path, suffix: str) -> None:
    with open_target(str(tmp_path / f"whole{suffix}"), "trl-standard") as target:
        for number in range(50):
            target.add(preference(f"prompt {number} \U0001f469", "a", "b"))
    whole, chance = (tmp_path / f"whole{suffix}").read_bytes(), random.Random(suffix)
    for _ in range(150):
        damaged, at = bytearray(whole), chance.randrange(4, len(whole))
        if chance.random() < 0.5:
            damaged[at] ^= 1 << chance.randrange(8)
        else:
            del damaged[at:]
        with suppress(TransferFailed):
            rows(written(tmp_path / "damaged", bytes(damaged)))


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-c", "from pairing.cli import pairs; pairs()", "convert"])
    line = f"{command} <(printf %s {shlex.quote(LINE.decode())}) --to trl-standard"
    result = subprocess.run(["bash", "-c", line], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"1 rows written, 0 refused.\n")
    assert json.loads(result.stdout) == ROW


def test_a_later_row_of_another_format_is_refused_and_not_misread(tmp_path: Path) -> None:
    """Read as TRL's, it would lose its system prompt."""
    other = json.dumps({**ROW, "system": "Be brief."}).encode()
    file = written(tmp_path / "x.jsonl", b"\n".join([LINE] * 20 + [other, LINE]))
    result = convert(file, "--to", "trl-standard", "--report", tmp_path / "report.jsonl")
    [told] = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert (result.exit_code, told["line"], told["reason"]) == (3, 21, "other-format")
    assert "looks like axolotl" in told["detail"]
    assert "--from" in told["detail"]
    assert len(result.stdout.splitlines()) == 21
    assert convert(file, "--to", "trl-standard", "--from", "trl-standard").exit_code == 0


def test_fields_that_have_no_place_are_counted_and_named(tmp_path: Path) -> None:
    row = {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "rejected_message": {"role": "assistant", "content": "c"},
        "split": "TEST",
        "metadata": {"prompt_id": "p"},
    }
    file = written(tmp_path / "x.jsonl", json.dumps(row).encode())
    for to, left_out in (("openai", "2 tags were left out (prompt_id, split)"), ("openpipe", "1 tags were left out (prompt_id)")):
        result = convert(file, "--to", to)
        assert (result.exit_code, left_out in result.stderr) == (0, True), result.stderr


def test_a_row_of_several_pairs_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    calls = [{"function": {"name": "f", "arguments": "{}"}}]
    completions = [
        {"rank": rank, "completion": [{"role": "assistant", **said}]}
        for rank, said in enumerate(({"content": "good"}, {"content": "bad"}, {"tool_calls": calls}))
    ]
    row = {"context": [{"role": "user", "content": "a"}], "completions": completions}
    file = written(tmp_path / "x.jsonl", json.dumps(row).encode())
    assert len(convert(file, "--to", "nemo-rl").stdout.splitlines()) == 2
    result = convert(file, "--to", "nova")
    assert (result.exit_code, result.stdout) == (3, "")


def test_null_in_parquet_is_absent_at_any_depth(tmp_path: Path) -> None:
    given = [{"chosen": [{"role": "user", "content": "a", "name": None}], "x": None}, {"chosen": [], "x": {"y": None, "z": 1}}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), tmp_path / "x.parquet")
    assert rows(tmp_path / "x.parquet") == [{"chosen": [{"role": "user", "content": "a"}]}, {"chosen": [], "x": {"z": 1}}]


def test_a_row_of_parquet_that_is_not_text_is_refused_alone(tmp_path: Path) -> None:
    broken = pyarrow.array([b"a", b"\xff", b"c"]).cast(pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"prompt": broken}), tmp_path / "x.parquet")
    first, second, third = rows(tmp_path / "x.parquet")
    assert (first, third) == ({"prompt": "a"}, {"prompt": "c"})
    assert second.reason is Reason.NOT_TEXT


def test_a_parquet_file_with_a_column_twice_is_not_guessed_at(tmp_path: Path) -> None:
    table = pyarrow.table([pyarrow.array([text]) for text in "abcd"], names=["prompt", "chosen", "rejected", "rejected"])
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    result = convert(tmp_path / "x.parquet", "--to", "trl-standard")
    assert (result.exit_code, "has the column rejected twice" in result.stderr) == (1, True)


def test_a_directory_of_parquet_files_is_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"prompt": name}]), tmp_path / f"{name}.parquet")
    assert rows(tmp_path) == [{"prompt": "a"}, {"prompt": "b"}]


def test_a_hugging_face_directory_has_a_split_for_held_out_pairs(tmp_path: Path) -> None:
    from datasets import load_dataset

    openpipe = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": reply}], "split": split}
        | {"rejected_message": {"role": "assistant", "content": "c"}}
        for reply, split in (("b", "TRAIN"), ("d", "TEST"), ("e", "TRAIN"))
    ]
    file = written(tmp_path / "x.jsonl", b"\n".join(json.dumps(row).encode() for row in openpipe))
    assert convert(file, "--to", "hf", "--out", tmp_path / "set").exit_code == 0
    loaded = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    chosen = {split: [row["chosen"][0]["content"] for row in loaded[split]] for split in loaded}
    assert chosen == {"train": ["b", "e"], "test": ["d"]}
    again = convert(file, "--to", "hf", "--out", tmp_path / "set")
    assert (again.exit_code, "no empty directory" in again.stderr) == (1, True)


def test_a_conversion_reports_each_line_that_it_refused_and_why(tmp_path: Path) -> None:
    file = written(tmp_path / "x.jsonl", LINE + b"\n{\n" + LINE.replace(b'"c"', b'"b"') + b"\n" + LINE)
    out, report = tmp_path / "y.jsonl", tmp_path / "report.jsonl"
    result = convert(file, "--to", "nemo-aligner", "--out", out, "--report", report)
    assert result.exit_code == 3
    assert "2 rows written, 2 refused." in result.stderr
    told = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(one["line"], one["reason"]) for one in told] == [(2, "not-json"), (3, "same-text")]
    assert all(one["detail"] for one in told)
    assert [json.loads(line) for line in out.read_text().splitlines()] == 2 * [
        {"prompt": "a", "chosen_response": "b", "rejected_response": "c"}
    ]


@pytest.mark.parametrize("content", [LINE, gzip.compress(LINE)], ids=["plain", "gzip"])
def test_rows_go_from_standard_input_to_standard_output(content: bytes) -> None:
    command = [sys.executable, "-c", "from pairing.cli import pairs; pairs()", "convert", "-", "--to", "trl-standard"]
    result = subprocess.run(command, input=content, capture_output=True, check=True)
    assert json.loads(result.stdout) == ROW
    assert result.stderr == b"1 rows written, 0 refused.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl", "--to", "trl"], "cannot be read"),
        (["x.jsonl", "--to", "poem"], "Formats are openpipe,"),
        (["x.jsonl", "--to", "trl", "--from", "poem"], "Formats are openpipe,"),
        (["x.jsonl", "--to", "hh"], "no format that is written"),
        (["x.jsonl", "--to", "parquet"], "--out"),
        (["x.jsonl", "--to", "openai", "--out", "y.parquet"], "Parquet holds rows of trl"),
        (["x.jsonl", "--to", "trl", "--out", "no/such/place.jsonl"], "cannot be written"),
        (["x.jsonl", "--to", "trl", "--report", "no/such/place.jsonl"], "cannot be written"),
        (["x.jsonl", "--to", "openai", "--report", "/dev/full"], "The report cannot be written"),
        (["x.jsonl", "--to", "trl", "--report", "./x.jsonl"], "--report names the file that is read"),
        (["x.jsonl", "--to", "trl", "--out", "/dev/full/x"], "cannot be written"),
        (["unclear.jsonl", "--to", "trl"], "--from"),
        (["two.jsonl", "--to", "trl"], "The rows may be openpipe or swift. Say with --from"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("x.jsonl"), LINE)
    written(Path("unclear.jsonl"), b'{"a": 1}')
    written(Path("two.jsonl"), b'{"messages": [], "rejected_message": {}, "rejected_response": ""}')
    result = convert(*arguments)
    assert (result.exit_code, said in result.stderr) == (1, True), result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.jsonl", "unclear.jsonl", "x.jsonl"]
    assert Path("x.jsonl").read_bytes() == LINE


def test_the_help_of_the_commands_imports_nothing_heavy() -> None:
    seen = "import sys, pairing.cli; print(sorted({'pyarrow', 'datasets', 'httpx', 'sqlmodel', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", seen], capture_output=True, check=True).stdout.strip() == b"[]"


@pytest.mark.parametrize("place", ["x.jsonl", "set"])
def test_a_terminal_shows_a_bar_that_moves_to_its_end(tmp_path: Path, place: str) -> None:
    """Of bytes where the size is known, else of rows."""
    written(tmp_path / "x.jsonl", (LINE + b"\n") * 1_200)
    assert convert(tmp_path / "x.jsonl", "--to", "trl-standard", "--out", tmp_path / "y.parquet").exit_code == 0
    (tmp_path / "set").mkdir()
    (tmp_path / "y.parquet").rename(tmp_path / "set" / "y.parquet")
    shown = on_a_terminal("convert", tmp_path / place, "--to", "trl-standard", "--out", tmp_path / "z.jsonl")
    assert "━" in shown
    assert ("kB" in shown) == (place == "x.jsonl")
    assert ("1200/?" in shown) == (place == "set")
    assert "1,200 rows written, 0 refused." in shown


def on_a_terminal(*arguments: str | Path) -> str:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from pairing.cli import pairs; pairs()", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end closed
            while chunk := os.read(ours, 4096):
                shown += chunk
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def test_ctrl_c_ends_a_conversion_with_how_far_it_came_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from pairing.cli import pairs; pairs()", "convert", "-", "--to", "trl", "--out", "y.jsonl"]
    many = (json.dumps({"prompt": [{"role": "user", "content": "a"}]} | ROW_OF_REPLIES).encode() + b"\n") * 100
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        feeding = threading.Thread(target=_feed, args=(process.stdin, many))
        feeding.start()
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        said = process.stderr.read().decode()
        feeding.join()
    assert process.returncode == 130
    assert said.startswith("Stopped after line ")
    assert "rows read, none written" in said
    assert list(tmp_path.iterdir()) == []


def _feed(pipe: Any, content: bytes) -> None:
    """For as long as somebody reads."""
    with suppress(BrokenPipeError):
        while True:
            pipe.write(content)


class Swallows:
    """Python ignores what is raised where an object ends, and would only print it."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_counts_also_where_its_exception_was_swallowed(capfd: pytest.CaptureFixture[str]) -> None:
    before, passed = signal.getsignal(signal.SIGINT), []

    def passing(number: int) -> None:
        passed.append(number)
        if number == 2:
            Swallows()

    with pytest.raises(KeyboardInterrupt), _heard_ctrl_c() as until_stopped:
        [passing(number) for number in until_stopped(range(5))]  # type: ignore[func-returns-value]  # only for its effect
    assert passed == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == ""


def test_an_empty_file_is_no_rows_and_no_error(tmp_path: Path) -> None:
    result = convert(written(tmp_path / "x.jsonl", b""), "--to", "trl")
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_long_file_without_any_row_is_not_read_to_its_end(tmp_path: Path) -> None:
    result = convert(written(tmp_path / "x.jsonl", b"{\n" * 5_000), "--to", "trl")
    assert (result.exit_code, "is this JSON Lines?" in result.stderr) == (1, True)


@pytest.mark.long
@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    """A hundred thousand rows of 2 KB: 200 MB that never stand in memory at once. In Parquet they are one row group."""
    file = tmp_path / name
    many = [{**ROW, "prompt": random.Random(number).randbytes(1_000).hex()} for number in range(100_000)]
    if name == "x.parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(many), file, use_dictionary=False)
        assert pyarrow.parquet.read_metadata(file).num_row_groups == 1
    else:
        with gzip.open(file, "wb", 1) as packed, io.BufferedWriter(packed) as stream:  # type: ignore[arg-type]  # GzipFile is raw enough
            for row in many:
                stream.write(json.dumps(row).encode() + b"\n")
    script = (
        "import pathlib; from pairing.cli import pairs; "
        f"\ntry: pairs(['convert', {str(file)!r}, '--to', 'nemo-aligner', '--out', {str(tmp_path / 'y.jsonl.zst')!r}])"
        "\nexcept SystemExit as end: print(end.code, pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    code, peak_kib = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.split()
    assert int(code) == 0
    assert int(peak_kib) < 300_000
