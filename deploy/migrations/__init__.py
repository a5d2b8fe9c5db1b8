"""The tables of every stage, made and changed by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from ingest.database import Database

# Any number, the same for every Whetstone: who holds it in PostgreSQL changes the tables.
_LOCK = 0x77686574


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database to the tables of a revision, the newest unless told. Safe to call by several processes at once.

    Raises:
        sqlalchemy.exc.OperationalError: the database does not answer.
    """
    database = Database(url)
    try:
        _upgrade(database.engine, revision)
    finally:
        database.close()


def config(connection: Connection) -> Config:
    """Alembic's configuration over one open transaction."""
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent))
    alembic.attributes["connection"] = connection
    return alembic


def _upgrade(engine: Engine, revision: str) -> None:
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        command.upgrade(config(connection), revision)
