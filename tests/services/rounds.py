"""Rounds for tests: pairs, in a manifest or in the database."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlmodel import Session

from ingest.events import canonical, fingerprint
from ingest.settings import TaskSettings
from pairing.tables import Pair, StoredVote
from trainer.manifest import FrozenPair, Manifest
from trainer.select import to_answer

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def pair(number: int, prompt: str | None = None, chosen: str = "Water flows.", rejected: str | None = None) -> FrozenPair:
    """A pair that differs from every other number's."""
    return FrozenPair(
        id=f"{number:064x}",
        prompt=prompt or f"tell me about rivers and about thing {chr(97 + number % 26) * (1 + number // 26)}",
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
        prompts=tuple(to_answer(held_out, (), 64)),
        near_holdout=0,
        last_event_at=NOW,
    )


def add_pairs(
    session: Session, task: str, numbers: Iterable[int], split: str = "train", made_at: datetime = NOW, prompt: str | None = None
) -> list[str]:
    """Pairs as pairing leaves them, each with one event behind it, an hour apart; returns their ids."""
    ids = []
    for number in numbers:
        frozen = pair(number, prompt)
        happened = NOW + timedelta(hours=number)
        session.add(
            Pair(
                id=frozen.id,
                task=task,
                replies=f"replies of {frozen.id}",
                prompt_hash=fingerprint(canonical(frozen.prompt)),
                prompt=canonical(frozen.prompt).decode(),
                chosen=canonical(frozen.chosen).decode(),
                rejected=canonical(frozen.rejected).decode(),
                source=frozen.source,
                split=split,
                votes_for=1,
                votes_against=0,
                weight=1,
                wrong_share=0.1,
                chosen_adapters="[]",
                rejected_adapters="[]",
                counted="{}",
                created_at=made_at + timedelta(seconds=number),
            )
        )
        session.add(
            StoredVote(
                task=task,
                event_id=f"event-{number}",
                chosen_hash=f"chosen {number}",
                rejected_hash=f"rejected {number}",
                prompt_hash=fingerprint(canonical(frozen.prompt)),
                replies=f"replies of {frozen.id}",
                voter="a voter",
                revision=-1,
                occurred_at=happened,
                source=frozen.source,
            )
        )
        ids.append(frozen.id)
    return ids
