"""From the model that a client asks for to the adapter that answers. Pure; read anew from the database a few times a second."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, select

from serving import releases
from serving.gateway.errors import UnknownModel
from trainer.tables import BASE, Adapter, Release


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a request. `by_name`: the client asked for this adapter itself."""

    task: str
    adapter: str
    by_name: bool


@dataclass(frozen=True, slots=True)
class Routes:
    """What the database says at one moment."""

    live: dict[str, str]  # by task, the adapter that answers it
    adapters: dict[str, str]  # by adapter, its task
    kept: frozenset[str]  # adapters that rollout keeps loaded

    def resolve(self, model: str) -> Route:
        """Find who answers `TASK`, `TASK@base` or `TASK@ADAPTER`.

        Raises:
            UnknownModel: no such task, or no such adapter of the task.
        """
        task, at, adapter = model.partition("@")
        if task not in self.live:
            raise UnknownModel(f"There is no task {task!r}. Tasks: {', '.join(sorted(self.live)) or 'none'}.", "model")
        if not at:
            return Route(task, self.live[task], by_name=False)
        if adapter != BASE and self.adapters.get(adapter) != task:
            raise UnknownModel(f"The task {task!r} has no adapter {adapter!r}; `whetstone adapters list` shows them.", "model")
        return Route(task, adapter, by_name=True)

    def models(self, loaded: frozenset[str], allowed: Iterable[str]) -> list[str]:
        """Every model that can be asked for now: the tasks, their base, and their adapters that vLLM has loaded."""
        return [
            name
            for task in sorted(set(allowed) & self.live.keys())
            for name in (task, f"{task}@{BASE}", *(f"{task}@{a}" for a in sorted(loaded) if self.adapters.get(a) == task))
        ]


def read_routes(session: Session, tasks: Sequence[str]) -> Routes:
    """Read the routes of these tasks."""
    adapters = session.exec(select(Adapter)).all()
    read = releases.read_all(tasks, session.exec(select(Release)).all(), adapters)
    return Routes(
        live={task: state.live for task, state in read.items()},
        adapters={adapter.name: adapter.task for adapter in adapters},
        kept=releases.kept(read.values(), adapters),
    )
