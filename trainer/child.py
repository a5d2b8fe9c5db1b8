"""A round, in a process of its own: `python -m trainer.child ROUND_ID`."""

import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ingest.database import Database
from ingest.events import Prompt, canonical
from ingest.observe import configure_logging
from ingest.settings import Settings, load_settings
from trainer import manifest as manifests
from trainer.ask import Gateway
from trainer.criteria import FreshReply, checks
from trainer.errors import CannotTrain, NotSealed, TrainerError
from trainer.gate import Evidence, Verdict, judge
from trainer.manifest import Manifest
from trainer.plan import live_adapter
from trainer.progress import Progress
from trainer.seal import seal, verify
from trainer.tables import Adapter, Release, Round

logger = logging.getLogger(__name__)


class RoundRun:
    """One round, from its manifest to its verdict. Every step that an earlier attempt finished is passed over."""

    def __init__(self, settings: Settings, database: Database, plan: Manifest) -> None:
        self._settings = settings
        self._database = database
        self._plan = plan
        self._folder = manifests.folder_of(settings, plan.name)
        self._home = (settings.adapters_dir / plan.name).absolute()
        self._progress = Progress(self._folder)

    def run(self) -> Verdict:
        """Train, seal, evaluate, judge, record.

        Raises:
            TrainerError: the round cannot go on now, or never.
        """
        self.train_and_seal()
        evidence = self.evaluate()
        settings = self._plan.settings
        verdict = judge(evidence, checks(settings.criteria), settings.criteria, settings.gate)
        self.record(verdict)
        return verdict

    def train_and_seal(self) -> None:
        """The adapter in its place, whole, and its row."""
        if not self._is_sealed():
            train_s = self._train()
            digest = seal(self._folder / "draft", self._home, self._lineage())
            self._record_sealed(digest, train_s)
        self._want_loaded(True)

    def evaluate(self) -> Evidence:
        """What candidate and live do on held-out pairs and prompts."""
        gains = self._margin_gains()
        gateway, prompts = Gateway(self._settings), _distinct(self._plan)[: self._plan.settings.gate.prompts]
        gateway.wait_until_served(f"{self._plan.task}@{self._plan.name}")
        candidate, live = (self._replies(gateway, name, prompts) for name in (self._plan.name, self._plan.live))
        return Evidence(candidate, live, gains)

    def record(self, verdict: Verdict) -> None:
        """The verdict, and with it the release: rollout acts on what stands there."""
        with self._database.begin() as session:
            round_ = session.get_one(Round, self._plan.round_id)
            now_live = live_adapter(session, self._plan.task)
            if now_live != self._plan.live:
                moved = f"{now_live} went live during the round, and the candidate was judged against {self._plan.live}."
                verdict = Verdict(False, [*verdict.reasons, moved], verdict.figures)
            round_.state = "passed" if verdict.passed else "refused"
            round_.verdict, round_.finished_at = verdict.as_json(), datetime.now(UTC)
            session.get_one(Adapter, self._plan.name).wanted = False
            if verdict.passed:
                session.add(
                    Release(
                        task=self._plan.task,
                        adapter=self._plan.name,
                        reason="gate",
                        asked_by="gate",
                        created_at=datetime.now(UTC),
                    )
                )
        logger.info("%s %s", self._plan.name, round_.state)

    def _is_sealed(self) -> bool:
        with self._database.read() as session:
            return session.get(Adapter, self._plan.name) is not None and bool(verify(self._home))

    def _train(self) -> float:
        """Train to a draft, unless an earlier attempt did; how long that took, in seconds."""
        done = self._folder / "trained.json"
        if not done.exists():
            from trainer import dpo  # the heavy import: nobody else waits for it

            def tell(step: int, steps: int) -> None:
                self._progress.tell("training", step, steps)

            self._progress.tell("training", 0, 1)
            trained = dpo.train(self._plan, self._folder, self._folder / "draft", tell)
            figures = {"train_s": trained.train_s, "pairs": trained.pairs, "too_long": trained.too_long, "loss": trained.loss}
            manifests.write_atomically(done, json.dumps(figures).encode())
        return float(json.loads(done.read_bytes())["train_s"])

    def _lineage(self) -> dict[str, object]:
        plan = self._plan
        return {
            "round": plan.round_id,
            "task": plan.task,
            "base_model": plan.base_model,
            "parent": plan.parent,
            "training": plan.settings.training.model_dump(mode="json"),
            "pairs": [pair.id for pair in plan.train],
            "round_manifest_sha256": manifests.digest(self._folder),
        }

    def _record_sealed(self, digest: str, train_s: float) -> None:
        with self._database.begin() as session:
            round_ = session.get_one(Round, self._plan.round_id)
            round_.state, round_.train_s = "sealed", train_s
            session.add(
                Adapter(
                    name=self._plan.name,
                    task=self._plan.task,
                    round_id=self._plan.round_id,
                    parent=self._plan.parent,
                    path=str(self._home),
                    manifest_sha256=digest,
                    sealed_at=datetime.now(UTC),
                )
            )

    def _want_loaded(self, wanted: bool) -> None:
        with self._database.begin() as session:
            session.get_one(Adapter, self._plan.name).wanted = wanted

    def _margin_gains(self) -> list[float]:
        """By held-out pair, the candidate's margin less that of live, in nats."""
        if not self._plan.holdout:
            return []
        from trainer import dpo

        self._progress.tell("held-out pairs", 0, len(self._plan.holdout))
        length = self._plan.settings.training.max_length
        live = Path(self._plan.live_path) if self._plan.live_path else None
        candidate, before = (dpo.margins(self._plan.base_model, path, self._plan.holdout, length) for path in (self._home, live))
        self._progress.tell("held-out pairs", len(self._plan.holdout), len(self._plan.holdout))
        return [after - was for after, was in zip(candidate, before, strict=True)]

    def _replies(self, gateway: Gateway, name: str, prompts: Sequence[Prompt]) -> list[list[FreshReply]]:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            self._progress.tell(f"fresh replies of {name}", done, len(prompts))

        return gateway.replies(f"{self._plan.task}@{name}", prompts, self._plan.settings.gate, count)


def _distinct(plan: Manifest) -> list[Prompt]:
    """The held-out prompts, each once, in the order of their pairs' ids."""
    ordered = sorted(plan.holdout, key=lambda pair: pair.id)
    return list({canonical([str(pair.prompt)]): pair.prompt for pair in ordered}.values())


def main(round_id: int) -> int:
    """Exit status 0: a verdict was reached, or never will be; 1: start the round again."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no round outlives its scheduler
    configure_logging("round")
    settings = load_settings()
    os.nice(settings.trainer.nice)
    database = Database(settings.database_url, settings.database.pool_size)
    with database.read() as session:
        round_ = session.get_one(Round, round_id)
    try:
        RoundRun(settings, database, manifests.read(manifests.folder_of(settings, round_.adapter))).run()
    except (CannotTrain, NotSealed) as error:
        give_up(database, round_id, str(error))
    except TrainerError as error:
        logger.error("%s: %s", round_.adapter, error)
        return 1
    return 0


def give_up(database: Database, round_id: int, why: str) -> None:
    """The round failed: no further attempt."""
    with database.begin() as session:
        round_ = session.get_one(Round, round_id)
        round_.state, round_.error, round_.finished_at = "failed", why, datetime.now(UTC)
        adapter = session.get(Adapter, round_.adapter)
        if adapter:
            adapter.wanted = False
    logger.error("%s failed: %s", round_.adapter, why)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
