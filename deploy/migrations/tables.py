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


def metadata(dialect: str) -> MetaData:
    """Every table that a database of this dialect shall have, with the indexes that it shall have there."""
    made = MetaData()
    for table in SQLModel.metadata.sorted_tables:
        elsewhere = {index.name for index in table.indexes if index.info.get("dialect", dialect) != dialect}
        copy = table.to_metadata(made)
        copy.indexes -= {index for index in copy.indexes if index.name in elsewhere}
    return made


def compare_type(_context: Any, _column: Any, _metadata_column: Any, inspected: Any, ours: Any) -> bool | None:
    """Whether a type differs; our own one for times is a time to every database."""
    if isinstance(ours, UtcDateTime):
        return not isinstance(inspected, DateTime)
    return None  # let Alembic decide
