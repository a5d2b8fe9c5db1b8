"""Commands: `whetstone dead-letters list|show|replay`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.printing import AsJson, Limit, fail, opened_database, print_json, print_one, print_rows, the_one
from pairing.outcomes import DeadReason

if TYPE_CHECKING:
    from sqlmodel import Session

    from pairing.tables import DeadLetter

dead_letters = typer.Typer(help="Events that could not be processed, with the reason.", no_args_is_help=True)

_SOME_STAYED = 3


@dead_letters.command("list")
def list_dead_letters(
    reason: Annotated[DeadReason | None, typer.Option(help="Only with this reason.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List dead letters."""
    from sqlmodel import col, select

    from pairing.tables import DeadLetter

    query = select(DeadLetter).where(*([DeadLetter.reason == reason.value] if reason else []))
    with opened_database() as database, database.read() as session:
        found = session.exec(query.order_by(col(DeadLetter.received_at).desc(), col(DeadLetter.id)).limit(limit)).all()
    columns: dict[str, Callable[[DeadLetter], object]] = {
        "id": lambda letter: letter.id[:12],
        "reason": lambda letter: letter.reason,
        "received": lambda letter: letter.received_at,
        "detail": lambda letter: letter.detail,
    }
    print_rows(found, columns, _of_letter, as_json)


@dead_letters.command("show")
def show_dead_letter(
    letter_id: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")], as_json: AsJson = False
) -> None:
    """Show a dead letter whole, as it came."""
    with opened_database() as database, database.read() as session:
        letter = _named(session, letter_id)
    told = _of_letter(letter) | {"meaning": DeadReason(letter.reason).meaning, "value": letter.value.decode(errors="replace")}
    print_one(told, as_json)


@dead_letters.command("replay")
def replay_dead_letters(
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Their ids, or the beginnings of them.")
    ] = None,
    reason: Annotated[DeadReason | None, typer.Option(help="All with this reason.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have them go through again, after a fix. Those that are events now count once, however often this is run.

    Ends with status 3 if some stayed dead letters.
    """
    from sqlmodel import select

    from ingest.settings import load_settings
    from pairing.holdout import HoldoutChanged
    from pairing.replay import replay
    from pairing.tables import DeadLetter
    from pairing.tombstones import ErasureKeyChanged

    if [bool(letter_ids), reason is not None, everyone].count(True) != 1:
        fail("Say which: ids, --reason REASON or --all.", 2)
    with opened_database() as database:
        with database.read() as session:
            query = select(DeadLetter.id).where(*([DeadLetter.reason == reason.value] if reason else []))
            named = [_named(session, id_).id for id_ in letter_ids or ()]
            wanted = named or list(session.exec(query).all())
        try:
            done = replay(database, load_settings(), wanted)
        except (HoldoutChanged, ErasureKeyChanged) as error:
            fail(str(error))
    if as_json:
        print_json({"events": done.events, "stayed": [_of_letter(letter) for letter in done.stayed]})
    else:
        typer.echo(f"{len(done.events)} are events now, {len(done.stayed)} stayed dead letters.")
        for letter in done.stayed:
            typer.echo(f"{letter.id[:12]} {letter.reason}: {letter.detail}")
    raise typer.Exit(_SOME_STAYED if done.stayed else 0)


def _named(session: "Session", beginning: str) -> "DeadLetter":
    from sqlmodel import col, select

    from pairing.tables import DeadLetter

    return the_one(session, select(DeadLetter).where(col(DeadLetter.id).startswith(beginning, autoescape=True)))


def _of_letter(letter: "DeadLetter") -> dict[str, Any]:
    return letter.model_dump(mode="json", exclude={"value"})
