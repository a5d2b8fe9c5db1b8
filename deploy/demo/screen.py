"""The demo's screen: bars that move, and a line for each thing that happened."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Screen:
    """Bars by name, and what was said, with the minutes and seconds since the start."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._rows: dict[str, TaskID] = {}
        self._phase: tuple[str, int] | None = None

    def __enter__(self) -> "Screen":
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        self.console.print(f"[dim]{minutes:2}:{seconds:02}[/]  {text}", highlight=False)

    def count(self, name: str, done: int, total: int | None = None) -> None:
        """Move the bar of that name, which is made when it is first spoken of."""
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = self._bars.add_task(name, total=total)
        self._bars.update(row, completed=done, total=total)

    def go_through(self, name: str, done: int, total: int) -> None:
        """As `count`, of phases that follow each other: the one before has ended, whether or not its last step was seen."""
        if self._phase and self._phase[0] != name:
            before, steps = self._phase
            self.count(before, steps, steps)
        self._phase = name, total
        self.count(name, done, total)
