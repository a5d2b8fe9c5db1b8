"""Rounds for tests: pairs, manifests, and an installation with a database and the real processes of the trainer."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest.settings import TaskSettings
from trainer.manifest import FrozenPair, Manifest

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def pair(number: int, prompt: str | None = None, chosen: str = "Water flows.", rejected: str | None = None) -> FrozenPair:
    """A pair that differs from every other number's."""
    return FrozenPair(
        id=f"{number:064x}",
        prompt=prompt or f"tell me about rivers and about thing {'abcdefghijklmnopqrstuvwxyz'[number % 26] * (1 + number // 26)}",
        chosen=chosen,
        rejected=rejected or "Rivers are streams of water that flow to the sea" + " far" * (number % 7),
        source="choice",
    )


def manifest(
    base_model: Path | str,
    pairs: Sequence[FrozenPair],
    held_out: Sequence[FrozenPair] = (),
    parent: Path | None = None,
    number: int = 1,
    **settings: Any,
) -> Manifest:
    """What the child of a round is given."""
    return Manifest(
        round_id=number,
        name=f"short-r{number:06d}",
        task="short",
        base_model=str(base_model),
        parent=parent.name if parent else "base",
        parent_path=str(parent) if parent else None,
        live="base",
        settings=TaskSettings.model_validate(settings),
        train=tuple(pairs),
        holdout=tuple(held_out),
        near_holdout=0,
        last_event_at=NOW,
    )
