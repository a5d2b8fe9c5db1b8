"""Commands: `whetstone pairing work`, `whetstone pairs list|show`."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.printing import AsJson, Limit, in_short, opened_database, print_one, print_rows, the_one

if TYPE_CHECKING:
    from pairing.tables import Pair

pairing = typer.Typer(help="Turns events into pairs.", no_args_is_help=True)
pairs = typer.Typer(help="The pairs that feedback became.", no_args_is_help=True)

_JSON = ("prompt", "tools", "chosen", "rejected", "chosen_adapters", "rejected_adapters", "counted")
_A_PERSON_DECIDES = 3
"""Exit status of a worker that must not be started again before somebody has read why it stopped."""


@pairing.callback()
def _pairing() -> None:
    """Keeps `work` a command of its own, though it is the only one."""


@pairing.command("work")
def work(
    member: Annotated[
        str | None, typer.Option(help="Name among the readers, the same at each start. Default: the host's.")
    ] = None,
) -> None:
    """Read the event log until SIGTERM."""
    import logging
    import signal
    from threading import Event

    from ingest.log import LogMoved, MemberReplaced
    from ingest.observe import configure_logging
    from ingest.settings import load_settings
    from pairing.holdout import HoldoutChanged
    from pairing.worker import work

    configure_logging("pairing")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        work(load_settings(), member or _default_member(), stop)
    except (LogMoved, MemberReplaced, HoldoutChanged) as error:
        logging.getLogger(__name__).error("stops: %s", error)
        raise typer.Exit(_A_PERSON_DECIDES) from None


@pairs.command("list")
def list_pairs(
    task: Annotated[str | None, typer.Option(help="Only this task's.")] = None,
    source: Annotated[str | None, typer.Option(help="Only from choice, regeneration, edit or preference.")] = None,
    split: Annotated[str | None, typer.Option(help="Only train or holdout.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List pairs."""
    from sqlmodel import col, select

    from pairing.tables import Pair

    asked = {Pair.task: task, Pair.source: source, Pair.split: split}
    query = select(Pair).where(*(col(column) == value for column, value in asked.items() if value is not None))
    with opened_database() as database, database.read() as session:
        found = session.exec(query.order_by(col(Pair.created_at).desc(), col(Pair.id)).limit(limit)).all()
    columns: dict[str, Callable[[Pair], object]] = {
        "id": lambda pair: pair.id[:12],
        "task": lambda pair: pair.task,
        "source": lambda pair: pair.source,
        "split": lambda pair: pair.split,
        "votes": lambda pair: f"{pair.votes_for}:{pair.votes_against}",
        "prompt": lambda pair: in_short(json.loads(pair.prompt)),
        "chosen": lambda pair: in_short(json.loads(pair.chosen)),
        "rejected": lambda pair: in_short(json.loads(pair.rejected)),
    }
    print_rows(found, columns, _of_pair, as_json)


@pairs.command("show")
def show_pair(pair_id: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")], as_json: AsJson = False) -> None:
    """Show a pair whole, with the events behind it."""
    from pairing.rows import select_by
    from pairing.standing import behind
    from pairing.tables import Pair, StoredEvent

    with opened_database() as database, database.read() as session:
        pair = the_one(session, Pair, pair_id)
        keys = [(pair.task, id_) for id_ in sorted(behind(session, pair.task, [pair.replies])[pair.replies])]
        rows = select_by(session, StoredEvent, ("event_id", "type"), ("task", "event_id"), keys)
    told = _of_pair(pair) | {"events": [{"event_id": event_id, "type": type_} for event_id, type_ in rows]}
    print_one(told, as_json)


def _default_member() -> str:
    import re
    import socket

    return "pairing-" + re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())


def _of_pair(pair: "Pair") -> dict[str, Any]:
    return pair.model_dump(mode="json") | {name: _parsed(getattr(pair, name)) for name in _JSON}


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
