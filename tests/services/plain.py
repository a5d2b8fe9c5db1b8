"""What the tables hold, in the words of the plain model of the rules: to be compared with what that says."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ingest.database import Database
from ingest.events import Event
from ingest.settings import Settings
from pairing.identity import prompt_hash
from tests.services.ledger import everything
from tests.standins import plain_rules

_ADAPTERS = ("chosen_adapters", "rejected_adapters")
_SAID = ("source", "split", "votes_for", "votes_against", "weight", "wrong_share", "events")


def assert_as_the_model_says(database: Database, sent: Iterable[Event], settings: Settings) -> None:
    """Every pair, unpaired example, outcome and dead letter is what follows from the set of these events."""
    held, wanted = _held(database), plain_rules.everything(sent, settings)
    wanted["examples"] = {
        (task, prompt_hash(prompt, tools), reply): label for (task, prompt, tools, reply), label in wanted["examples"].items()
    }
    for part in wanted:
        differing = _differing(held[part], wanted[part])
        assert not differing, f"{part}, as held and as the model says: {differing}"


def _held(database: Database) -> Mapping[str, Mapping[Any, Any]]:
    found = everything(database)
    return {
        "pairs": {tuple(pair[name] for name in plain_rules.CONTENT): _of_pair(pair) for pair in found["pairs"].values()},
        "examples": found["examples"],
        "outcomes": found["outcomes"],
        "dead": dict(found["dead"]),
    }


def _of_pair(pair: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: pair[name] for name in _SAID} | {name: json.loads(pair[name]) for name in _ADAPTERS}


def _differing(held: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> Mapping[Any, tuple[Any, Any]]:
    """By key, what is held and what the model wants."""
    keys = sorted(held.keys() | wanted.keys(), key=repr)
    return {key: (held.get(key), wanted.get(key)) for key in keys if held.get(key) != wanted.get(key)}
