"""How the embedded log keeps the headers of a record, and how large a record counts."""

import json

from ingest.log import MAX_RECORD_BYTES, Headers, NewRecord, RecordTooLarge


def encode_headers(headers: Headers) -> bytes:
    """JSON of names and values in hex; nothing for no headers."""
    return json.dumps([(name, value.hex()) for name, value in headers]).encode() if headers else b""


def decode_headers(stored: bytes) -> Headers:
    """What `encode_headers` was given."""
    return tuple((name, bytes.fromhex(value)) for name, value in json.loads(stored)) if stored else ()


def check_size(record: NewRecord) -> None:
    """Raise RecordTooLarge for a record that no log takes."""
    size = len(record.key) + len(record.value) + sum(len(name.encode()) + len(value) for name, value in record.headers)
    if size > MAX_RECORD_BYTES:
        raise RecordTooLarge(f"a record of {size} bytes; the event log takes at most {MAX_RECORD_BYTES}")
