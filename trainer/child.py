"""A round, in a process of its own: `python -m trainer.child ROUND_ID`."""

import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from sqlmodel import Session

from ingest.database import Database
from ingest.leader import FileLock
from ingest.observe import configure_logging
from ingest.settings import Settings, WrongSetting, load_settings
from trainer import manifest as manifests
from trainer.ask import Gateway, with_users
from trainer.criteria import FreshReply, checks
from trainer.errors import CannotTrain, NotSealed, TrainerError
from trainer.files import write_atomically
from trainer.gate import Evidence, Verdict, judge
from trainer.manifest import FrozenPrompt, Manifest
from trainer.plan import UNFINISHED, live_adapter, path_of
from trainer.progress import Progress
from trainer.seal import seal, verify
from trainer.select import prompt_key
from trainer.tables import Adapter, Release, Round

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.2


class RoundRun:
    """One round, from its manifest to its verdict. Every step that an earlier attempt finished is passed over."""

    def __init__(self, settings: Settings, database: Database, plan: Manifest) -> None:
        self._settings = settings
        self._database = database
        self._plan = plan
        self._folder = manifests.folder_of(settings, plan.name)
        self._home = (settings.adapters_dir / plan.name).absolute()
        self._progress = Progress(self._folder)
        self._checks = checks(plan.settings.criteria)

    def run(self) -> Verdict:
        """Train, seal, evaluate, judge, record; judge again if something else went live meanwhile.

        Raises:
            TrainerError: the round cannot go on now, or never.
        """
        self.train_and_seal()
        while True:
            live = self._live()
            evidence = self.evaluate(live)
            verdict = judge(evidence, self._checks, self._plan.settings.criteria, self._plan.settings.gate)
            if self.record(verdict, live):
                return verdict
            logger.info("%s was judged against %s, which is not live any more: judging again", self._plan.name, live)

    def train_and_seal(self) -> None:
        """The adapter in its place, whole, and its row."""
        if not self._is_sealed():
            trained = self._train()
            digest = seal(self._folder / "draft", self._home, self._lineage(trained))
            self._record_sealed(digest, float(trained["train_s"]))
        self._want_loaded()

    def evaluate(self, live: str) -> Evidence:
        """What candidate and live do on held-out pairs and prompts."""
        gains = self._margin_gains(live)
        asking = self._plan.prompts
        gateway, task = Gateway(self._settings), self._plan.task
        gateway.wait_until_served([f"{task}@{name}" for name in (self._plan.name, live)])
        candidate, before = (self._replies(gateway, name, asking) for name in (self._plan.name, live))
        answered = [both for both in zip(candidate, before, strict=True) if all(both)]
        return Evidence([one for one, _ in answered], [other for _, other in answered], gains, float(self._trained()["margin"]))

    def record(self, verdict: Verdict, live: str) -> bool:
        """The verdict, and with it the release: rollout acts on what stands there. False when `live` is not live any more."""
        now = datetime.now(UTC)
        with self._database.begin() as session:
            if live_adapter(session, self._plan.task) != live:
                return False
            round_ = self._unfinished(session)
            round_.state, round_.verdict, round_.finished_at = _state(verdict), verdict.as_json(), now
            session.get_one(Adapter, self._plan.name).wanted = False
            if verdict.passed:
                adapter = self._plan.name
                session.add(Release(task=self._plan.task, adapter=adapter, reason="gate", asked_by="gate", created_at=now))
        self._progress.tell(_state(verdict), 1, 1)
        logger.info("%s %s", self._plan.name, _state(verdict))
        return True

    def _live(self) -> str:
        with self._database.read() as session:
            return live_adapter(session, self._plan.task)

    def _is_sealed(self) -> bool:
        with self._database.read() as session:
            return session.get(Adapter, self._plan.name) is not None and bool(verify(self._home))

    def _train(self) -> dict[str, float]:
        """Train to a draft, unless an earlier attempt did; with what figures."""
        done = self._folder / "trained.json"
        if not done.exists():
            if self._plan.parent_path:
                verify(Path(self._plan.parent_path))
            self._progress.tell("training", 0, 1)
            from trainer import dpo  # the heavy import: nobody else waits for it

            trained = dpo.train(self._plan, self._folder, self._folder / "draft", self._tell_step)
            write_atomically(done, json.dumps(asdict(trained)).encode())
        return self._trained()

    def _trained(self) -> dict[str, float]:
        found: dict[str, float] = json.loads((self._folder / "trained.json").read_bytes())
        return found

    def _tell_step(self, step: int, steps: int) -> None:
        self._progress.tell("training", step, steps)

    def _lineage(self, trained: dict[str, float]) -> dict[str, object]:
        plan = self._plan
        return {
            "round": plan.round_id,
            "task": plan.task,
            "base_model": plan.base_model,
            "parent": plan.parent,
            "training": plan.settings.training.model_dump(mode="json"),
            "trained": trained,
            "pairs": [pair.id for pair in plan.train],
            "round_manifest_sha256": manifests.digest(self._folder),
        }

    def _record_sealed(self, digest: str, train_s: float) -> None:
        with self._database.begin() as session:
            round_ = self._unfinished(session)
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

    def _unfinished(self, session: Session) -> Round:
        """The round, which nobody else can end meanwhile."""
        round_ = session.get_one(Round, self._plan.round_id, with_for_update=True)
        if round_.state not in UNFINISHED:
            raise TrainerError("The round was ended by another process.")
        return round_

    def _want_loaded(self) -> None:
        with self._database.begin() as session:
            self._unfinished(session)
            session.get_one(Adapter, self._plan.name).wanted = True

    def _margin_gains(self, live: str) -> list[list[float]]:
        """By held-out prompt and pair, the candidate's margin less that of live, in nats."""
        if not self._plan.holdout:
            return []
        from trainer import dpo

        self._progress.tell("held-out pairs", 0, 1)
        with self._database.read() as session:
            before = path_of(session, live)
        length = self._plan.settings.training.max_length
        homes = (self._home, Path(before) if before else None)
        both = [dpo.margins(self._plan.base_model, home, self._plan.holdout, length) for home in homes]
        gains: dict[str, list[float]] = {}
        for pair, after, was in zip(self._plan.holdout, *both, strict=True):
            if after is not None and was is not None:
                gains.setdefault(prompt_key(pair), []).append(after - was)
        return list(gains.values())

    def _replies(self, gateway: Gateway, name: str, asking: Sequence[FrozenPrompt]) -> list[list[FreshReply]]:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            self._progress.tell(f"fresh replies of {name}", done, len(asking))

        with self._database.read() as session:
            of_users = with_users(session, self._plan.task, asking)
        return gateway.replies(f"{self._plan.task}@{name}", of_users, self._plan.settings.gate, count)


def main(round_id: int) -> int:
    """Exit status 0: the round has ended; 1: start it again."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no round outlives its scheduler
    configure_logging("round")
    settings = load_settings()
    os.nice(settings.trainer.nice)
    database = Database(settings.database_url, settings.database.pool_size)
    try:
        return attempt(settings, database, round_id)
    except Exception:
        logger.exception("round %d stopped", round_id)
        return 1
    finally:
        database.close()


def attempt(settings: Settings, database: Database, round_id: int) -> int:
    """Bring the round to its end, unless another process does. Exit status as of `main`."""
    with database.read() as session:
        name = session.get_one(Round, round_id).adapter
    folder = manifests.folder_of(settings, name)
    lock = FileLock(folder / "lock")
    while not lock.held():
        time.sleep(_LOOK_EVERY_S)
    with database.read() as session:
        if session.get_one(Round, round_id).state not in UNFINISHED:
            return 0
    try:
        RoundRun(settings, database, manifests.read(folder)).run()
    except (CannotTrain, NotSealed, WrongSetting) as error:
        give_up(database, round_id, str(error))
    except TrainerError as error:
        logger.error("%s: %s", name, error)
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


def _state(verdict: Verdict) -> str:
    return "passed" if verdict.passed else "refused"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
