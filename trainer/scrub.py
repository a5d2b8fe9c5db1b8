"""What rounds froze in their folders loses what was removed since: of users who were erased, and what has expired."""

import shutil
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from sqlalchemy import update
from sqlmodel import Session, col, select

from pairing.identity import prompt_hash, prompt_json, tools_json
from pairing.rows import select_by
from pairing.standing import pairs_among
from pairing.tables import AskedPrompt, Erasure, Retention, StoredEvent
from trainer import manifest as manifests
from trainer.errors import CannotTrain
from trainer.manifest import FrozenPrompt, Manifest
from trainer.plan import UNFINISHED
from trainer.tables import Round, RoundEvent

_WEIGHTS = ("checkpoints", "draft")


def due(session: Session) -> list[str]:
    """Tasks of which something is gone for good that rounds may still hold. What expired stays until a round under way ends."""
    erased = select(Erasure.task).where(col(Erasure.erased_at).is_not(None), col(Erasure.rounds_at).is_(None))
    busy = select(Round.task).where(col(Round.state).in_(UNFINISHED))
    expired = select(Retention.task).where(
        col(Retention.done_at).is_not(None), col(Retention.rounds_at).is_(None), col(Retention.task).not_in(busy)
    )
    return sorted({*session.exec(erased), *session.exec(expired)})


def asking_gone(session: Session, rounds_dir: Path, task: str) -> set[str]:
    """The rounds of the task under way that will ask adapters a prompt that is no more."""
    under_way = session.exec(select(Round).where(Round.task == task, col(Round.state).in_(("training", "sealed")))).all()
    frozen = {round_.adapter: _read(rounds_dir / round_.adapter) for round_ in under_way}
    return {name for name, manifest in frozen.items() if manifest and _gone_prompts(session, manifest)}


def scrub(session: Session, rounds_dir: Path, task: str) -> bool:
    """Rewrite the manifests of the task's finished rounds without what was removed; True when no round is under way any more.

    The folders of tainted rounds lose the weights, too, that training left there: nothing goes on from them.
    """
    rounds = session.exec(select(Round).where(Round.task == task)).all()
    for round_ in rounds:
        if round_.state not in UNFINISHED:
            _scrub(session, rounds_dir / round_.adapter, round_)
    return all(round_.state not in UNFINISHED for round_ in rounds)


def note_done(session: Session, task: str, now: datetime, with_retention: bool) -> None:
    """Write into the proofs that rounds and adapters were seen to: of what is gone from the database by now."""
    seen = {"rounds_at": now}
    erased = (col(Erasure.task) == task, col(Erasure.erased_at).is_not(None), col(Erasure.rounds_at).is_(None))
    session.connection().execute(update(Erasure).where(*erased).values(**seen))
    if with_retention:
        expired = (col(Retention.task) == task, col(Retention.done_at).is_not(None), col(Retention.rounds_at).is_(None))
        session.connection().execute(update(Retention).where(*expired).values(**seen))


def without(frozen: Manifest, pairs: Collection[str], prompts: Collection[str], digest: str) -> Manifest:
    """The manifest without these pairs, by id, and these prompts, by hash; the same if it holds none of them."""
    train, holdout = (tuple(pair for pair in side if pair.id not in pairs) for side in (frozen.train, frozen.holdout))
    asked = tuple(one for one in frozen.prompts if hash_of(one) not in prompts)
    removed = len(frozen.train) + len(frozen.holdout) + len(frozen.prompts) - len(train) - len(holdout) - len(asked)
    if not removed:
        return frozen
    change = {"train": train, "holdout": holdout, "prompts": asked, "removed": frozen.removed + removed}
    return frozen.model_copy(update=change | {"original_sha256": frozen.original_sha256 or digest})


def hash_of(prompt: FrozenPrompt) -> str:
    """As AskedPrompt has it."""
    return prompt_hash(prompt_json(prompt.prompt), tools_json(prompt.tools))


def _scrub(session: Session, folder: Path, round_: Round) -> None:
    if round_.state == "tainted":
        for name in _WEIGHTS:
            shutil.rmtree(folder / name, ignore_errors=True)
    if frozen := _read(folder):
        rest = without(frozen, _gone_pairs(session, round_), _gone_prompts(session, frozen), manifests.digest(folder))
        if rest is not frozen:
            manifests.write(folder, rest)


def _read(folder: Path) -> Manifest | None:
    """None where the round was never published, or somebody moved its folder away."""
    try:
        return manifests.read(folder)
    except CannotTrain:
        return None


def _gone_pairs(session: Session, round_: Round) -> set[str]:
    """Pairs of the round that are no more, and rested on an event whose content was removed."""
    query = (
        select(RoundEvent.pair_id)
        .join(StoredEvent, (col(StoredEvent.event_id) == RoundEvent.event_id) & (col(StoredEvent.task) == round_.task))
        .where(RoundEvent.round_id == round_.id, StoredEvent.body == "")
        .distinct()
    )
    touched = set(session.exec(query))
    return touched - pairs_among(session, touched)


def _gone_prompts(session: Session, frozen: Manifest) -> set[str]:
    asked = {hash_of(prompt) for prompt in frozen.prompts}
    rows = select_by(session, AskedPrompt, ("hash",), ("task", "hash"), [(frozen.task, prompt) for prompt in asked])
    return asked - {row[0] for row in rows}
