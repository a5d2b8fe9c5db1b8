"""Commands: `whetstone pairing work`, `whetstone pairs list|show|import|export|convert`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ingest.printing import AsJson, Limit, in_short, opened_database, print_one, print_rows, the_one
from pairing import data_cli, upkeep_cli

if TYPE_CHECKING:
    from pairing.tables import Pair

pairing = typer.Typer(help="Turns events into pairs.", no_args_is_help=True)
pairs = typer.Typer(help="The pairs that feedback became.", no_args_is_help=True)
pairs.command("import")(data_cli.import_pairs)
pairs.command("export")(data_cli.export_pairs)
pairs.command("convert")(data_cli.convert_pairs)
pairs.command("rebuild")(upkeep_cli.rebuild_pairs)
pairs.command("bias")(upkeep_cli.show_bias)

_JSON = ("prompt", "tools", "chosen", "rejected", "chosen_adapters", "rejected_adapters", "counted")
_COLUMNS: dict[str, "Callable[[Pair], object]"] = {
    "id": lambda pair: pair.id[:12],
    "task": lambda pair: pair.task,
    "source": lambda pair: pair.source,
    "split": lambda pair: pair.split,
    "votes": lambda pair: f"{pair.votes_for}:{pair.votes_against}",
    "prompt": lambda pair: in_short(json.loads(pair.prompt)),
    "chosen": lambda pair: in_short(json.loads(pair.chosen)),
    "rejected": lambda pair: in_short(json.loads(pair.rejected)),
}
_MOST_VOTES = 100
"""Shown of a pair."""
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
    from pairing.tombstones import ErasureKeyChanged
    from pairing.worker import work

    configure_logging("pairing")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        work(load_settings(), member or _default_member(), stop)
    except (LogMoved, MemberReplaced, HoldoutChanged, ErasureKeyChanged) as error:
        logging.getLogger(__name__).error("stops: %s", error)
        raise typer.Exit(_A_PERSON_DECIDES) from None


@pairs.command("list")
def list_pairs(
    task: Annotated[str | None, typer.Option(help="Only this task's.")] = None,
    source: Annotated[str | None, typer.Option(help="Only from this source, such as choice or edit.")] = None,
    split: Annotated[Literal["train", "holdout"] | None, typer.Option(help="Only training pairs, or only held-out ones.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Only with a reply that this adapter, or `base`, wrote.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only made since then, UTC.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List pairs."""
    from sqlmodel import col, or_, select

    from pairing.tables import Pair

    data_cli.check_source(source)
    asked = {Pair.task: task, Pair.source: source, Pair.split: split}
    query = select(Pair).where(*(col(column) == value for column, value in asked.items() if value is not None))
    if adapter is not None:
        written = (col(side).contains(f'"{adapter}"', autoescape=True) for side in (Pair.chosen_adapters, Pair.rejected_adapters))
        query = query.where(or_(*written))
    if since is not None:
        query = query.where(col(Pair.created_at) >= since.replace(tzinfo=UTC))
    with opened_database() as database, database.read() as session:
        found = session.exec(query.order_by(col(Pair.created_at).desc(), col(Pair.id)).limit(limit)).all()
    print_rows(found, _COLUMNS, _of_pair, as_json)


@pairs.command("show")
def show_pair(pair_id: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")], as_json: AsJson = False) -> None:
    """Show a pair whole, with the votes on its replies and the events behind these."""
    from sqlmodel import col, select

    from pairing.lineage import of_pair
    from pairing.outcomes import Outcome
    from pairing.short_keys import begins
    from pairing.tables import Pair

    with opened_database() as database, database.read() as session:
        pair = the_one(session, select(Pair).where(begins(col(Pair.id), pair_id)))
        found = of_pair(session, pair, _MOST_VOTES)
    votes = [
        {
            "source": cast.vote.source,
            "for": cast.vote.speaks_for == pair.id,
            "counts": cast.standing is not Outcome.SUPERSEDED,
            "occurred_at": cast.vote.occurred_at,
            "events": cast.events,
        }
        for cast in found.votes
    ]
    events = [{"event_id": event.event_id, "type": event.type} for event in found.events]
    print_one(_of_pair(pair) | {"votes": votes, "votes_left_out": found.votes_left_out, "events": events}, as_json)


def _default_member() -> str:
    import re
    import socket

    return "pairing-" + re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())


def _of_pair(pair: "Pair") -> dict[str, Any]:
    texts = ((name, getattr(pair, name)) for name in _JSON)
    return pair.model_dump(mode="json") | {name: None if text is None else json.loads(text) for name, text in texts}
