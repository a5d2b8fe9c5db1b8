"""The prompts that a run of criteria samples replies to."""

import json

from pydantic import TypeAdapter
from sqlmodel import Session, and_, col, func, select

from ingest.database import Database
from ingest.events import Prompt
from ingest.settings import Settings
from pairing.tables import AskedPrompt, EventGeneration, StoredEvent
from trainer.criteria import scorers
from trainer.errors import CannotScore
from trainer.scoring import RecentPrompt

_prompt: TypeAdapter[Prompt] = TypeAdapter(Prompt)


def prompts_to_score(database: Database, settings: Settings, task: str, most: int) -> list[RecentPrompt]:
    """The prompts that people asked last, whichever their split is: it goes by the prompt, and so do the pairs.

    Raises:
        CannotScore: the task has no criteria, or nobody has asked anything.
        WrongSetting: a criterion cannot be used.
    """
    if task not in settings.tasks:
        raise CannotScore(f"There is no task {task}: the settings name {', '.join(sorted(settings.tasks)) or 'none'}.")
    if not settings.tasks[task].criteria:
        raise CannotScore(f"The task {task} has no criteria: add [[tasks.{task}.criteria]] to the settings.")
    scorers(settings.tasks[task].criteria)
    with database.read() as session:
        found = recent_prompts(session, task, most)
    if not found:
        raise CannotScore(f"Nobody has asked {task} anything yet: ask the gateway with model={task} first.")
    return found


def recent_prompts(session: Session, task: str, most: int) -> list[RecentPrompt]:
    """Different prompts, the last asked first. Asked by the gate to judge an adapter does not count."""
    asked_at = col(StoredEvent.occurred_at)
    turn = func.row_number().over(partition_by=EventGeneration.prompt_hash, order_by=(asked_at.desc(), StoredEvent.event_id))
    holder = and_(col(StoredEvent.task) == EventGeneration.task, col(StoredEvent.event_id) == EventGeneration.event_id)
    asking = (
        select(EventGeneration.prompt_hash, EventGeneration.user, asked_at.label("asked_at"), turn.label("turn"))
        .join(StoredEvent, holder)
        .where(EventGeneration.task == task, ~col(EventGeneration.evaluation))
        .subquery()
    )
    query = (
        select(AskedPrompt.prompt, AskedPrompt.tools, asking.c.user)
        .join(asking, asking.c.prompt_hash == AskedPrompt.hash)
        .where(AskedPrompt.task == task, asking.c.turn == 1)
        .order_by(asking.c.asked_at.desc(), AskedPrompt.hash)
        .limit(most)
    )
    return [
        RecentPrompt(_prompt.validate_json(prompt), tuple(json.loads(tools)) if tools else None, user)
        for prompt, tools, user in session.exec(query).all()
    ]
