"""Parquet, in and out: the only module that imports pyarrow's reader and writer of it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow  # type: ignore[import-untyped]  # pyarrow has no types
import pyarrow.parquet  # type: ignore[import-untyped]  # pyarrow has no types

from ingest.events import canonical
from pairing.formats.values import Reason, Refused, Row
from pairing.transfer import CutShort, TransferFailed

_BATCH_ROWS, _BATCH_BYTES = 1_000, 16_000_000
"""In memory at once, whichever is reached first."""

_BUFFER_BYTES = 1 << 20

_text = pyarrow.string()
_function = pyarrow.struct({"name": _text, "arguments": _text})
_calls = pyarrow.list_(pyarrow.struct({"id": _text, "type": _text, "function": _function}))
_messages = pyarrow.list_(
    pyarrow.struct({"role": _text, "content": _text, "name": _text, "tool_calls": _calls, "tool_call_id": _text})
)
SCHEMAS: Mapping[str, pyarrow.Schema] = {
    "trl": pyarrow.schema({"prompt": _messages, "chosen": _messages, "rejected": _messages, "tools": _text}),
    "trl-standard": pyarrow.schema({"prompt": _text, "chosen": _text, "rejected": _text}),
    "trl-unpaired": pyarrow.schema({"prompt": _messages, "completion": _messages, "label": pyarrow.bool_(), "tools": _text}),
}
"""A Parquet file has one schema for all its rows: the formats that it can hold."""


def read_rows(file: Path | IO[bytes], place: str) -> Iterator[Row | Refused]:
    """The rows of a Parquet file.

    What a row lacks is null in Parquet, so that fields which are null count as absent, at any depth.

    Raises:
        CutShort: the file is cut short or damaged.
        TransferFailed: it has a column twice: nobody knows which one counts.
    """
    done = 0
    try:
        with pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as opened:
            if twice := [name for name, count in Counter(opened.schema_arrow.names).items() if count > 1]:
                raise TransferFailed(f"{place} has the column {twice[0]} twice: write it again with one of them.")
            for batch in opened.iter_batches(batch_size=_rows_at_once(opened.metadata)):
                yield from _rows(batch)
                done += batch.num_rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError: names of columns that are no text
        after = f"after row {done:,}" if done else "at its beginning or its end"
        raise CutShort(f"{place} is cut short or damaged {after}: {error}. What stood before it was read.") from None


def _rows(batch: Any) -> Iterator[Row | Refused]:
    """All at once, or, where one is not text though it should be, one by one."""
    try:
        yield from [_present(row) for row in batch.to_pylist()]
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield Refused(Reason.NOT_TEXT, "Not UTF-8.")
            return
        for number in range(batch.num_rows):
            yield from _rows(batch.slice(number, 1))


def _rows_at_once(metadata: Any) -> int:
    size: int = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1)))


class ParquetFile:
    """A Parquet file that is being written."""

    def __init__(self, path: Path, row_format: str) -> None:
        self._schema = SCHEMAS[row_format]
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def fit(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as the file takes it.

        Raises:
            Refused: it does not fit the schema.
        """
        return _flat(row, self._schema)

    def add(self, row: dict[str, Any]) -> None:
        """Write a row that fits."""
        self._rows.append(row)
        self._size += len(str(row))
        if len(self._rows) >= _BATCH_ROWS or self._size >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the file's end."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_batch(pyarrow.RecordBatch.from_pylist(self._rows, self._schema))
        self._rows, self._size = [], 0


def _flat(row: dict[str, Any], schema: pyarrow.Schema) -> dict[str, Any]:
    for name in ("prompt", "chosen", "rejected", "completion"):
        if isinstance(row.get(name), str) and schema.field(name).type != _text:
            raise Refused(Reason.TEXT_PROMPT, "One Parquet file holds conversations, or plain texts, and not both.")
        if isinstance(row.get(name), list) and any(isinstance(message.get("content"), list) for message in row[name]):
            raise Refused(Reason.PARTS)
    return row | ({"tools": canonical(row["tools"]).decode()} if "tools" in row else {})


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _present(held) for name, held in value.items() if held is not None}
    return [_present(one) for one in value] if isinstance(value, list) else value
