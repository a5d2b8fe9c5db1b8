"""Commands: `whetstone erasures list`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.printing import AsJson, opened_database, print_rows

if TYPE_CHECKING:
    from pairing.tables import Erasure

erasures = typer.Typer(help="The proofs that users were erased.", no_args_is_help=True)
_COLUMNS: dict[str, "Callable[[Erasure], object]"] = {
    "task": lambda proof: proof.task,
    "user_hash": lambda proof: proof.user_hash[:12],
    "asked_at": lambda proof: proof.asked_at,
    "erased_at": lambda proof: proof.erased_at or "under way",
    "rounds_at": lambda proof: proof.rounds_at or "under way",
    "events": lambda proof: proof.events,
    "log": lambda proof: proof.log,
}


@erasures.callback()
def _erasures() -> None:
    """Keeps `list` a command of its own, though it is the only one."""


@erasures.command("list")
def list_erasures(task: Annotated[str | None, typer.Option(help="Only this task's.")] = None, as_json: AsJson = False) -> None:
    """Who was erased, by keyed hash; when, and how many events lost their content.

    `rounds_at`: when rounds and adapters were seen to. `log`: the event log lost theirs with the rest (removed), holds
    it under a key that was destroyed (encrypted), or loses it with the topic's age (retention).
    """
    from sqlmodel import col, select

    from pairing.tables import Erasure

    query = select(Erasure).where(*([Erasure.task == task] if task else []))
    with opened_database() as database, database.read() as session:
        found = session.exec(query.order_by(col(Erasure.asked_at).desc(), col(Erasure.user_hash))).all()
    print_rows(found, _COLUMNS, lambda proof: proof.model_dump(), as_json, none="Nobody was erased.")
