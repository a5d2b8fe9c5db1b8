"""Where rows are written to. A file is there whole or not at all: written beside its place, and renamed into it."""

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from pairing.formats import FORMATS, WRITTEN
from pairing.formats.format import Format
from pairing.formats.values import Entry
from pairing.transfer import TransferFailed

CONTAINERS = ("parquet", "hf")
"""Names of formats that are TRL's rows in another container."""
_IN_PARQUET = ("trl", "trl-standard", "trl-unpaired")
_HELD_OUT = ("test", "holdout")


class _Rows(Protocol):
    def fit(self, row: dict[str, Any]) -> dict[str, Any]: ...

    def add(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Target:
    """Writes pairs and examples, each as a row."""

    def __init__(self, row_format: Format, rows_of: Callable[[Entry], _Rows], tags: frozenset[str] = frozenset()) -> None:
        assert row_format.write
        self.tags = row_format.tags | tags
        """Names of the tags that have a place there."""
        self._write = row_format.write
        self._rows_of = rows_of

    def add(self, *entries: Entry) -> None:
        """Write all that a row held.

        Raises:
            Refused: the format cannot hold one of them, and none is written.
        """
        fitting = [(rows := self._rows_of(entry), rows.fit(self._write(entry))) for entry in entries]
        for rows, row in fitting:
            rows.add(row)


def row_format(name: str) -> Format:
    """The format of the rows, by the name that `--format` or `--to` has.

    Raises:
        TransferFailed: none is written by this name.
    """
    if name not in (*WRITTEN, *CONTAINERS):
        raise TransferFailed(f"{name} is no format that is written. Formats are {', '.join((*WRITTEN, *CONTAINERS))}.")
    return FORMATS["trl" if name in CONTAINERS else name]


@contextmanager
def open_target(place: str | None, name: str) -> Iterator[Target]:
    """A file by the suffix of its name (.parquet; .gz and .zst are compressed), a directory for `hf`, or standard output.

    It is there when the block has ended, and not when the block raises.

    Raises:
        TransferFailed: it cannot be written there, or not in this format.
    """
    rows = row_format(name)
    try:
        if name == "hf":
            with _directory(place, rows) as target:
                yield target
        elif name == "parquet" or (place or "").endswith(".parquet"):
            with _renamed(_named(place, name)) as draft, closing(_parquet(draft, rows)) as file:
                yield Target(rows, lambda _: file)
        elif place in (None, "-"):
            printed = _Lines(sys.stdout.buffer)
            yield Target(rows, lambda _: printed)
            sys.stdout.buffer.flush()
        else:
            with _renamed(Path(str(place))) as draft, _lines(draft, str(place)) as lines:
                yield Target(rows, lambda _: lines)
    except OSError as error:
        raise TransferFailed(f"{place or 'standard output'} cannot be written: {error.strerror or error}.") from None


class _Lines:
    """Rows as lines of JSON."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def fit(self, row: dict[str, Any]) -> dict[str, Any]:
        return row

    def add(self, row: dict[str, Any]) -> None:
        self._stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None: ...


@contextmanager
def _lines(draft: Path, place: str) -> Iterator[_Lines]:
    with draft.open("wb") as raw:
        if place.endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as stream:  # the same rows are the same bytes
                yield _Lines(stream)
        elif place.endswith(".zst"):
            import pyarrow  # type: ignore[import-untyped]  # pyarrow has no types

            with pyarrow.CompressedOutputStream(pyarrow.PythonFile(raw, mode="w"), "zstd") as packed:
                yield _Lines(packed)
        else:
            yield _Lines(raw)


def _parquet(path: Path, rows: Format) -> Any:
    if rows.name not in _IN_PARQUET:
        raise TransferFailed(f"Parquet holds rows of {', '.join(_IN_PARQUET)}, and not of {rows.name}.")
    from pairing.transfer.parquet import ParquetFile

    return ParquetFile(path, rows.name)


@contextmanager
def _directory(place: str | None, rows: Format) -> Iterator[Target]:
    """As `datasets.load_dataset(DIRECTORY)` reads it: a Parquet file for each split; held-out pairs are `test`."""
    final = _named(place, "hf")
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise TransferFailed(f"{final} is there already and is no empty directory: name another one.")
    with _renamed(final) as draft:
        (draft / "data").mkdir(parents=True)
        files = {"train": _parquet(draft / "data" / "train-00000-of-00001.parquet", rows)}

        def rows_of(entry: Entry) -> _Rows:
            split = "test" if entry.tags.get("split", "").lower() in _HELD_OUT else "train"
            if split not in files:
                files[split] = _parquet(draft / "data" / f"{split}-00000-of-00001.parquet", rows)
            return files[split]  # type: ignore[no-any-return]  # pyarrow is untyped

        try:
            yield Target(rows, rows_of, frozenset({"split"}))
        finally:
            for file in files.values():
                file.close()


def _named(place: str | None, name: str) -> Path:
    if place in (None, "-"):
        raise TransferFailed(f"{name} is not written to standard output: name a place with --out.")
    return Path(str(place))


@contextmanager
def _renamed(final: Path) -> Iterator[Path]:
    draft = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        yield draft
        _sync(draft)
        draft.replace(final)
    finally:
        shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)


def _sync(written: Path) -> None:
    for path in [written, *written.rglob("*")]:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
