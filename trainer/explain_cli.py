"""The command `whetstone explain`. What is heavy is imported when it runs."""

from typing import Annotated

import typer

from ingest.printing import AsJson, fail, opened_database, print_json


def explain(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Of an event, a pair (its beginning will do) or an adapter.")],
    pairs: Annotated[int, typer.Option(min=0, help="Of an adapter, so many of its pairs with their events.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Say where something came from and what became of it, from events over pairs and rounds to adapters, and back."""
    from rich.console import Console

    from trainer.explain import as_json as plain
    from trainer.explain_reading import find
    from trainer.explain_tree import as_tree

    with opened_database() as database, database.read() as session:
        found = find(session, id_, pairs)
    if not found:
        fail("There is no event, pair, adapter or dead letter with this id. A new event takes a second to be there.", 2)
    if as_json:
        return print_json([plain(one) for one in found])
    for one in found:
        Console().print(as_tree(one), highlight=False)
