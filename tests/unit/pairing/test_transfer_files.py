"""Files as they are in the wild: read line by line, whatever is wrong with some of them."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from pairing.cli import pairs
from pairing.formats.values import Reason, Refused, preference
from pairing.transfer import CutShort
from pairing.transfer import source as sources
from pairing.transfer.source import open_source, parse
from pairing.transfer.target import open_target

ROW = {"prompt": "a", "chosen": "b", "rejected": "c"}
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
    ],
    ids=["no-last-newline", "newline", "bom", "crlf", "blank-lines", "blank-first", "gzip", "gzip-members"],
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


def test_null_in_parquet_is_absent_at_any_depth(tmp_path: Path) -> None:
    given = [{"chosen": [{"role": "user", "content": "a", "name": None}], "x": None}, {"chosen": [], "x": {"y": None, "z": 1}}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), tmp_path / "x.parquet")
    assert rows(tmp_path / "x.parquet") == [{"chosen": [{"role": "user", "content": "a"}]}, {"chosen": [], "x": {"z": 1}}]


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
        (["unclear.jsonl", "--to", "trl"], "--format"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("x.jsonl"), LINE)
    written(Path("unclear.jsonl"), b'{"a": 1}')
    result = convert(*arguments)
    assert (result.exit_code, said in result.stderr) == (1, True), result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unclear.jsonl", "x.jsonl"]


def test_the_help_of_the_commands_imports_nothing_heavy() -> None:
    seen = "import sys, pairing.cli; print(sorted({'pyarrow', 'datasets', 'httpx', 'sqlmodel', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", seen], capture_output=True, check=True).stdout.strip() == b"[]"


def test_an_empty_file_is_no_rows_and_no_error(tmp_path: Path) -> None:
    result = convert(written(tmp_path / "x.jsonl", b""), "--to", "trl")
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_long_file_without_any_row_is_not_read_to_its_end(tmp_path: Path) -> None:
    result = convert(written(tmp_path / "x.jsonl", b"{\n" * 5_000), "--to", "trl")
    assert (result.exit_code, "is this JSON Lines?" in result.stderr) == (1, True)


@pytest.mark.long
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A hundred thousand rows of 2 KB, compressed: 200 MB that never stand in memory at once."""
    file = tmp_path / "x.jsonl.gz"
    with gzip.open(file, "wb", 1) as packed, io.BufferedWriter(packed) as stream:  # type: ignore[arg-type]  # GzipFile is raw enough
        for number in range(100_000):
            stream.write(json.dumps({**ROW, "prompt": f"{number} " + "word " * 400}).encode() + b"\n")
    script = (
        "import pathlib; from pairing.cli import pairs; "
        f"\ntry: pairs(['convert', {str(file)!r}, '--to', 'nemo-aligner', '--out', {str(tmp_path / 'y.jsonl.zst')!r}])"
        "\nexcept SystemExit as end: print(end.code, pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    code, peak_kib = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.split()
    assert int(code) == 0
    assert int(peak_kib) < 300_000
