"""What became of the rows: counted, and line by line in a file."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from pairing.formats.values import Reason, Refused
from pairing.transfer import TransferFailed


@dataclass(slots=True)
class Tally:
    """How many rows were taken, how many refused and why."""

    taken: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    tags_left_out: int = 0
    """Tags that an event cannot hold: the pair is taken without them."""
    last_line: int = 0
    """Everything up to this line is settled."""
    file: IO[str] | None = None

    def refuse(self, line: int, refused: Refused) -> None:
        """Count a refused row, and write it to the report."""
        self.refused[refused.reason] += 1
        if self.file:
            told = {"line": line, "reason": refused.reason, "detail": refused.detail}
            self.file.write(json.dumps(told, ensure_ascii=False) + "\n")

    def sentence(self, verb: str) -> str:
        """Both numbers, and each reason with its meaning."""
        lines = [f"{self.taken:,} rows {verb}, {self.refused.total():,} refused."]
        lines += [f"  {count:,} {reason}: {reason.meaning}" for reason, count in self.refused.most_common()]
        if self.tags_left_out:
            lines.append(f"  {self.tags_left_out:,} tags were left out: an event holds 32, of 200 characters each.")
        return "\n".join(lines)


@contextmanager
def tally(report: str | None) -> Iterator[Tally]:
    """A tally that also writes to this file, if there is one.

    Raises:
        TransferFailed: the file cannot be written.
    """
    if report is None:
        yield Tally()
        return
    try:
        file = open(report, "w", encoding="utf-8")
    except OSError as error:
        raise TransferFailed(f"{report} cannot be written: {error.strerror}.") from None
    with file:
        yield Tally(file=file)
