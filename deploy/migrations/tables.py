"""The tables of every stage, and how they are compared with a database's."""

from typing import Any

from sqlalchemy import DateTime, MetaData
from sqlmodel import SQLModel

import ingest.keys
import ingest.user_keys
import pairing.tables
import serving.tables
import trainer.tables
from ingest.database import UtcDateTime

STAGES = (ingest.keys, ingest.user_keys, pairing.tables, trainer.tables, serving.tables)
"""Importing them describes their tables."""


def metadata() -> MetaData:
    """Every table that the database shall have."""
    return SQLModel.metadata


def compare_type(_context: Any, _column: Any, _metadata_column: Any, inspected: Any, ours: Any) -> bool | None:
    """Whether a type differs; our own one for times is a time to every database."""
    if isinstance(ours, UtcDateTime):
        return not isinstance(inspected, DateTime)
    return None  # let Alembic decide
