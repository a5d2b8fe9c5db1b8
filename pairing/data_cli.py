"""Commands: `whetstone pairs import|export|convert`. What they need is imported when they run."""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TypeVar, get_args

import typer

from ingest.printing import fail

if TYPE_CHECKING:
    from pairing.transfer.report import Tally
    from pairing.transfer.source import Source

T = TypeVar("T")
SOME_REFUSED = 3
"""Exit status when some rows were refused, and all others taken."""
_INTERRUPTED = 130
_ROOM = {"taken": "an event holds 32, of 200 characters each", "written": "the format has no place for them"}
"""Why a tag was left out of what was taken, or written."""

Report = Annotated[str | None, typer.Option(metavar="FILE", help="Write each refused row there: line, reason, detail.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="JSON Lines (.gz, .zst too) or Parquet; - is standard input.")]
Out = Annotated[
    str | None, typer.Option(metavar="PLACE", help="Where to. Default: standard output. .gz, .zst, .parquet as named.")
]


def check_source(source: str | None) -> None:
    """End with a sentence where no pair could be from there."""
    from pairing.rules.votes import Source

    if source is not None and source not in get_args(Source):
        fail(f"There is no source {source}: {', '.join(get_args(Source))}.", 2)


def import_pairs(
    file: File,
    task: Annotated[str, typer.Option(help="The task that the pairs are for.")],
    format_: Annotated[str | None, typer.Option("--format", help="Format of the rows. Default: as they look.")] = None,
    report: Report = None,
) -> None:
    """Send a file of preference data to the service. Stopped and run again, it makes no doubles.

    WHETSTONE_URL names a service elsewhere; WHETSTONE_KEY is an API key with the scope preference (unpaired examples: feedback
    and carried-generation). Ends with status 0 if all rows were taken, 3 if some were refused.
    """
    from contextlib import closing

    from pairing.transfer.entries import entries
    from pairing.transfer.importing import run
    from pairing.transfer.report import tally
    from pairing.transfer.service import service
    from pairing.transfer.source import open_source

    with (
        _told(),
        tally(_beside(file, report)) as counted,
        open_source(file) as source,
        closing(service(task, ["preference"])) as door,
    ):
        with (
            _ends_with(counted, "taken", "Run it again: what was taken counts once.", "taken") as until_stopped,
            _bar(counted, source) as moved,
        ):
            door.check()
            run(until_stopped(entries(source.lines, format_)), task, door, counted, moved)


def export_pairs(
    task: Annotated[str, typer.Option(help="The task whose pairs are wanted.")],
    format_: Annotated[str, typer.Option("--format", help="Format of the rows; parquet and hf hold TRL's.")],
    out: Out = None,
    split: Annotated[
        Literal["train", "holdout", "all"], typer.Option(help="Only training pairs, or only held-out ones.")
    ] = "all",
    source: Annotated[str | None, typer.Option(help="Only pairs from this source, such as choice or edit.")] = None,
    report: Report = None,
) -> None:
    """Write a task's pairs to a file. trl-unpaired writes its unpaired examples.

    WHETSTONE_URL names a service elsewhere; WHETSTONE_KEY is an API key with the scope admin. Ends with status 0 if all were
    written, 3 if the format could not hold some.
    """
    from contextlib import closing

    from pairing.transfer.exporting import exported, write
    from pairing.transfer.report import tally
    from pairing.transfer.service import service
    from pairing.transfer.target import open_target, row_format

    check_source(source)
    with _told(), tally(report) as counted, closing(service(task, ["admin"])) as door:
        kind = "examples" if row_format(format_).name == "trl-unpaired" else "pairs"
        asked = (
            {"task": task, "kind": kind} | ({"split": split} if split != "all" else {}) | ({"source": source} if source else {})
        )
        with _ends_with(counted, "written", "Run it again.", _so_far(out)) as until_stopped, _bar(counted) as moved:
            door.check()
            with open_target(out, format_) as target:
                write(until_stopped(exported(door.pairs(asked))), target, counted, moved)


def convert_pairs(
    file: File,
    to: Annotated[str, typer.Option(help="Format to write; parquet and hf hold TRL's rows.")],
    out: Out = None,
    from_: Annotated[str | None, typer.Option("--from", help="Format of the rows. Default: as they look.")] = None,
    report: Report = None,
) -> None:
    """Rewrite a file of preference data in another format. Needs no service.

    Ends with status 0 if all rows were written, 3 if some were refused.
    """
    from pairing.transfer.entries import entries
    from pairing.transfer.exporting import write
    from pairing.transfer.report import tally
    from pairing.transfer.source import open_source
    from pairing.transfer.target import open_target

    with _told(), tally(_beside(file, report)) as counted, open_source(file) as source:
        with _ends_with(counted, "written", "Run it again.", _so_far(out)) as until_stopped, _bar(counted, source) as moved:
            with open_target(out, to) as target:
                write(until_stopped(entries(source.lines, from_, "--from")), target, counted, moved)


@contextmanager
def _told() -> Iterator[None]:
    """What it cannot go on with is one sentence."""
    from pairing.transfer import TransferFailed

    try:
        yield
    except TransferFailed as error:
        _fail(str(error))


def _beside(file: str, report: str | None) -> str | None:
    """The report's place, which must not be the file that is read: it is written anew."""
    from pathlib import Path

    if report and Path(report).exists() and Path(file).exists() and Path(report).samefile(file):
        _fail("--report names the file that is read, and would replace it: name another one.")
    return report


def _so_far(out: str | None) -> str:
    """What is true of the rows when it ends early: a file is written whole or not at all."""
    return "written" if out in (None, "-") else "read, none written"


@contextmanager
def _ends_with(counted: "Tally", verb: str, advice: str, so_far: str) -> Iterator[Callable[[Iterable[T]], Iterator[T]]]:
    """Says how far it came, whichever way it ends. Gives what lets rows pass until Ctrl-C."""
    from pairing.transfer import TransferFailed

    room = _ROOM[verb]
    try:
        with _heard_ctrl_c() as until_stopped:
            yield until_stopped
    except KeyboardInterrupt:
        typer.echo(f"Stopped after line {counted.last_line:,}: {counted.sentence(so_far, room)}\n{advice}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except TransferFailed:
        if counted.last_line:
            typer.echo(f"Up to line {counted.last_line:,}: {counted.sentence(so_far, room)}", err=True)
        raise
    typer.echo(counted.sentence(verb, room), err=True)
    if counted.refused:
        raise typer.Exit(SOME_REFUSED)


@contextmanager
def _heard_ctrl_c() -> Iterator[Callable[[Iterable[T]], Iterator[T]]]:
    """Ctrl-C ends the rows also where its exception was swallowed, as pydantic does with what is raised inside of isinstance."""
    heard = []

    def hear(number: int, _frame: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    def end_if_heard() -> None:
        if heard:
            raise KeyboardInterrupt

    def until_stopped(rows: Iterable[T]) -> Iterator[T]:
        for row in rows:
            end_if_heard()
            yield row
            end_if_heard()  # before the next row is waited for

    before, tell = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before is signal.default_int_handler:  # else somebody wants it ignored
        signal.signal(signal.SIGINT, hear)
    sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt else tell(lost)
    try:
        yield until_stopped
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = tell


@contextmanager
def _bar(counted: "Tally", source: "Source | None" = None) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal: bytes where the size is known, else rows."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    size = source.size if source else None
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn()) if size else (BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=size)

        def moved() -> None:
            progress.update(bar, completed=source.position if source and size else counted.last_line)

        yield moved
        moved()


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)
