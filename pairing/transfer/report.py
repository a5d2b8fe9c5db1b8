"""What became of the rows: counted, and line by line in a file."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from pairing.formats.values import Reason, Refused
from pairing.transfer import TransferFailed

_MOST_NAMES = 8


@dataclass(slots=True)
class Tally:
    """How many rows were taken, how many refused and why."""

    taken: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    tags_left_out: int = 0
    """Of pairs that are taken without them."""
    last_line: int = 0
    """Everything up to this line is settled."""
    file: IO[bytes] | None = None
    _names_left_out: dict[str, None] = field(default_factory=dict)

    def refuse(self, line: int, refused: Refused) -> None:
        """Count a refused row, and write it to the report.

        Raises:
            TransferFailed: the report cannot be written.
        """
        self.refused[refused.reason] += 1
        if self.file:
            told = {"line": line, "reason": refused.reason, "detail": refused.detail}
            try:
                self.file.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
            except OSError as error:
                raise TransferFailed(f"The report cannot be written: {error.strerror}.") from None

    def leave_out(self, tags: Iterable[str]) -> None:
        """Count tags that a taken row lost."""
        for name in sorted(tags):
            self.tags_left_out += 1
            if len(self._names_left_out) < _MOST_NAMES:
                self._names_left_out.setdefault(name)

    def sentence(self, verb: str, room: str) -> str:
        """Both numbers, and each reason with its meaning. `room` says which tags would have fitted."""
        lines = [f"{self.taken:,} rows {verb}, {self.refused.total():,} refused."]
        lines += [f"  {count:,} {reason}: {reason.meaning}" for reason, count in self.refused.most_common()]
        if self.tags_left_out:
            lines.append(f"  {self.tags_left_out:,} tags were left out ({', '.join(self._names_left_out)}): {room}.")
        return "\n".join(lines)


@contextmanager
def tally(report: str | None) -> Iterator[Tally]:
    """A tally that also writes to this file, if there is one: each row at once, so that a killed import has told of it too.

    Raises:
        TransferFailed: the file cannot be written.
    """
    if report is None:
        yield Tally()
        return
    try:
        file = open(report, "wb", buffering=0)
    except OSError as error:
        raise TransferFailed(f"{report} cannot be written: {error.strerror}.") from None
    with file:
        yield Tally(file=file)
