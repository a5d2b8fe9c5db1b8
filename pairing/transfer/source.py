"""Rows of a file, one after another, in bounded memory: JSON Lines (plain, gzip, zstd) or Parquet, by the first bytes."""

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import IO, Any

from pairing.formats.strict import NotJson, decode, is_json
from pairing.formats.values import Reason, Refused, Row
from pairing.transfer import CutShort, TransferFailed

MAX_LINE_BYTES = 16_000_000
"""As much as any service can be set to take as one event."""
_MOST_LEVELS = 150
"""Of lists and objects in each other: Python writes and pydantic reads no more than some hundreds."""
_CHUNK_BYTES = 1 << 20
_GZIP, _ZSTD, _PARQUET, _BOM = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A row by its number, from 1: of the line in the file, or of the row in a Parquet file."""

    number: int
    row: Row | Refused


class Source:
    """A file that is being read."""

    def __init__(self, lines: Iterator[Line], raw: IO[bytes] | None, size: int | None) -> None:
        self.lines = lines
        self.size = size
        """In bytes, None where nobody knows; `position` is how many of them are read."""
        self._raw = raw

    @property
    def position(self) -> int:
        return self._raw.tell() if self._raw and not self._raw.closed else 0


@contextmanager
def open_source(place: str) -> Iterator[Source]:
    """The rows of a file, of a directory of Parquet files, or of standard input for `-`.

    Iterating raises CutShort where the file is cut short or damaged.

    Raises:
        TransferFailed: it cannot be read.
    """
    if place == "-":
        yield Source(_json_lines(_plain(sys.stdin.buffer, _peek(sys.stdin.buffer)), "standard input"), None, None)
    elif Path(place).is_dir():
        yield _directory(Path(place))
    else:
        with _opened(place) as raw:
            yield _file(raw, place)


def _opened(place: str) -> IO[bytes]:
    try:
        return Path(place).open("rb")
    except OSError as error:
        raise TransferFailed(f"{place} cannot be read: {error.strerror}.") from None


def _file(raw: IO[bytes], place: str) -> Source:
    size = Path(place).stat().st_size or None
    first = _peek(raw)
    if first.startswith(_PARQUET):
        from pairing.transfer.parquet import read_rows

        return Source(_numbered(read_rows(raw, place)), raw, size)
    return Source(_json_lines(_plain(raw, first), place), raw, size)


def _directory(directory: Path) -> Source:
    from pairing.transfer.parquet import read_rows

    files = sorted(directory.glob("**/*.parquet"))
    if not files:
        raise TransferFailed(f"{directory} holds no Parquet files. Name a file of JSON Lines instead.")
    return Source(_numbered(chain.from_iterable(read_rows(file, str(file)) for file in files)), None, None)


def _numbered(rows: Iterable[Row | Refused]) -> Iterator[Line]:
    return (Line(number, row) for number, row in enumerate(rows, 1))


def _peek(raw: Any) -> bytes:
    """The first bytes, which stay to be read."""
    return bytes(raw.peek(4)[:4])


def _plain(raw: IO[bytes], first: bytes) -> Any:
    """Something with `read`, that gives the bytes uncompressed."""
    if first.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    if first.startswith(_ZSTD):
        import pyarrow  # type: ignore[import-untyped]  # pyarrow has no types

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
    if first.startswith(_PARQUET):
        raise TransferFailed("Parquet cannot be read from a pipe: give the file's name.")
    return raw


def _json_lines(stream: Any, place: str) -> Iterator[Line]:
    for number, line in enumerate(_split(stream, place), 1):
        if line is None:
            yield Line(number, Refused(Reason.TOO_LONG, f"More than {MAX_LINE_BYTES} bytes."))
        elif line.strip():
            yield Line(number, parse(line))


def _split(stream: Any, place: str) -> Iterator[bytes | None]:
    """The lines. Only a line feed ends one: what else may end a line stands raw inside strings. None: an oversized line."""
    rest, number, too_long = b"", 0, False
    while chunk := _read(stream, place, number):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield None if too_long else (line.removeprefix(_BOM) if number == 0 else line)
            number, too_long = number + 1, False
        if len(rest) > MAX_LINE_BYTES:
            rest, too_long = b"", True
    if rest or too_long:
        yield None if too_long else (rest.removeprefix(_BOM) if number == 0 else rest)


def _read(stream: Any, place: str, lines: int) -> bytes:
    try:
        if isinstance(stream, BufferedReader):
            return stream.read1(_CHUNK_BYTES)  # of a pipe what is there, and Ctrl-C is heard between
        return bytes(stream.read(_CHUNK_BYTES))
    except (EOFError, OSError, zlib.error) as error:
        after = f"after line {lines:,}" if lines else "at its beginning"
        raise CutShort(f"{place} is cut short or damaged {after}: {error}. What stood before it was read.") from None


def parse(line: bytes) -> Row | Refused:
    """A line of JSON."""
    try:
        row = decode(line)
    except NotJson as error:
        return Refused(Reason.NOT_JSON, str(error))
    if not isinstance(row, dict):
        return Refused(Reason.NOT_JSON, "A row must be an object.")
    # Nearly all rows show by their brackets that they are no deeper.
    if line.count(b"{") + line.count(b"[") > _MOST_LEVELS and not is_json(row, _MOST_LEVELS):
        return Refused(Reason.NOT_JSON, f"Nested deeper than {_MOST_LEVELS} levels, or a number has no end.")
    return row
