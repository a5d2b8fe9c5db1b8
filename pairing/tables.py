"""The tables of pairing: stored events, where the log was read to, votes, pairs, dead letters."""

from datetime import datetime

from sqlalchemy import Text
from sqlmodel import Column, Field, SQLModel

from ingest.database import UtcDateTime


class Pair(SQLModel, table=True):
    """A prompt, a chosen and a rejected reply, and what stands behind them."""

    __tablename__ = "pairs"

    id: str = Field(primary_key=True, description="SHA-256 of task, prompt, tools, chosen, rejected; never changes.")
    task: str = Field(index=True)
    prompt_hash: str = Field(index=True)
    prompt: str = Field(sa_column=Column(Text, nullable=False), description="Prompt as canonical JSON.")
    tools: str | None = Field(None, sa_column=Column(Text), description="Tools as canonical JSON.")
    chosen: str = Field(sa_column=Column(Text, nullable=False), description="Reply as canonical JSON.")
    rejected: str = Field(sa_column=Column(Text, nullable=False), description="Reply as canonical JSON.")
    source: str = Field(description="choice, regeneration, edit, score, rating or preference.")
    split: str = Field(description="train or holdout.")
    votes_for: int
    votes_against: int
    chosen_adapter: str | None = Field(None, description="Adapter that wrote the chosen reply; none: base, or a person.")
    rejected_adapter: str | None = Field(None, description="Adapter that wrote the rejected reply.")
    created_at: datetime = Field(sa_type=UtcDateTime, description="When the row was made; no part of the content.")


class PairEvent(SQLModel, table=True):
    """An event behind a pair."""

    __tablename__ = "pair_events"

    pair_id: str = Field(primary_key=True, foreign_key="pairs.id", ondelete="CASCADE")
    task: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True, index=True)
