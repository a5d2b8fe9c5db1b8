"""Commands: `whetstone dead-letters list|show`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.printing import AsJson, Limit, opened_database, print_one, print_rows, the_one

if TYPE_CHECKING:
    from pairing.tables import DeadLetter

dead_letters = typer.Typer(help="Events that could not be processed, with the reason.", no_args_is_help=True)


@dead_letters.command("list")
def list_dead_letters(
    reason: Annotated[str | None, typer.Option(help="Only with this reason.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List dead letters."""
    from sqlmodel import col, select

    from pairing.tables import DeadLetter

    query = select(DeadLetter).where(*([DeadLetter.reason == reason] if reason else []))
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
    from pairing.outcomes import DeadReason
    from pairing.tables import DeadLetter

    with opened_database() as database, database.read() as session:
        letter = the_one(session, DeadLetter, letter_id)
    told = _of_letter(letter) | {"meaning": DeadReason(letter.reason).meaning, "value": letter.value.decode(errors="replace")}
    print_one(told, as_json)


def _of_letter(letter: "DeadLetter") -> dict[str, Any]:
    return letter.model_dump(mode="json", exclude={"value"})
