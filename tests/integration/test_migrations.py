"""Migrations make exactly the tables that the stages describe, on both databases."""

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Dialect, inspect, text
from sqlmodel import SQLModel, select

from deploy.migrations import config, upgrade
from deploy.migrations.tables import compare_type, metadata
from ingest.database import Database
from ingest.events import Event, canonical
from pairing.held import place_of
from pairing.rows import insert_all
from pairing.tables import EventGeneration, StoredEvent
from tests.services.feedback import event, generation, ref
from tests.services.postgres import empty_database

ROOT = Path(__file__).parents[2]
AT_ONCE = 4


def differences(url: str) -> list[Any]:
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": compare_type})
            return list(compare_metadata(context, metadata(connection.dialect.name)))
    finally:
        database.close()


def test_the_migrations_make_exactly_the_tables_that_the_stages_describe(url: str) -> None:
    assert differences(url)
    upgrade(url)
    assert differences(url) == []


def test_postgresql_finds_rows_as_if_the_stages_had_made_the_tables(server: str, on_postgres: str) -> None:
    upgrade(on_postgres)
    with empty_database(server, "described") as url, contextlib.closing(Database(url)) as database:
        SQLModel.metadata.create_all(database.engine)
        assert finding(on_postgres) == finding(url)


def finding(url: str) -> set[tuple[str, str]]:
    """How each index is made, and each constraint that forbids something twice."""
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    constraints = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'x'"
    with contextlib.closing(Database(url)) as database, database.engine.connect() as connection:
        return {(row[0], row[1]) for row in connection.exec_driver_sql(f"{indexes} UNION {constraints}")}


def test_keys_are_looked_up_as_the_stages_describe_it_also_after_a_step_back(url: str) -> None:
    upgrade(url)
    with contextlib.closing(Database(url)) as database, database.engine.begin() as connection:
        command.downgrade(config(connection), "0004")
        assert keys(connection) != described(database.engine.dialect)
    upgrade(url)
    assert differences(url) == []
    with contextlib.closing(Database(url)) as database, database.engine.connect() as connection:
        assert keys(connection) == described(database.engine.dialect)


def keys(connection: Connection) -> dict[str, Any]:
    """By table, the primary key in its order, and the columns that are compared byte by byte."""
    there = inspect(connection)
    return {
        table: (
            there.get_pk_constraint(table)["constrained_columns"],
            {column["name"] for column in there.get_columns(table) if getattr(column["type"], "collation", None) == "C"},
        )
        for table in there.get_table_names()
        if table != "alembic_version"
    }


def described(dialect: Dialect) -> dict[str, Any]:
    return {
        name: (
            [column.name for column in table.primary_key if table.primary_key.info.get("dialect", dialect.name) == dialect.name],
            {one.name for one in table.columns if getattr(one.type.dialect_impl(dialect), "collation", None) == "C"},
        )
        for name, table in SQLModel.metadata.tables.items()
    }


def test_a_second_upgrade_changes_nothing(url: str) -> None:
    upgrade(url)
    upgrade(url)
    assert differences(url) == []


def test_processes_that_upgrade_at_once_do_not_harm_each_other(url: str) -> None:
    command = [sys.executable, "-c", "import sys; from deploy.migrations import upgrade; upgrade(sys.argv[1])", url]
    started = [subprocess.Popen(command, cwd=ROOT) for _ in range(AT_ONCE)]
    assert [process.wait(60) for process in started] == [0] * AT_ONCE
    assert differences(url) == []


def test_what_an_older_revision_stored_stands_where_a_new_event_would(url: str) -> None:
    histories = [generation("g", "one", "other"), *(_said(number) for number in range(len(KINDS)))]
    upgrade(url, "0003")
    database = Database(url)
    with database.begin() as session:
        for one in histories:
            body = canonical(one).decode()
            row = {"task": one.task, "event_id": one.event_id, "type": one.type, "user": one.user, "outcome": "voted"}
            times = {"occurred_at": one.occurred_at, "received_at": one.occurred_at}
            insert_all(session, StoredEvent, (*row, *times, "body", "body_hash"), [(*row.values(), *times.values(), body, "")])
            name = {"task": one.task, "generation": "g", "event": one.event_id}
            session.connection().execute(text(_NAMED), name)
    database.close()
    upgrade(url)
    with contextlib.closing(Database(url)) as upgraded, upgraded.read() as session:
        places = dict(session.exec(select(EventGeneration.event_id, EventGeneration.place)).all())
    assert places == {one.event_id: place_of(one) for one in histories}


KINDS: list[dict[str, Any]] = [
    {"type": "choice", "shown": [ref("g"), ref("g", 1)], "picked": "tie", "user": "ann b"},
    {"type": "choice", "shown": [ref("g"), ref("g", 1)], "picked": "tie", "by": "expert"},
    {"type": "edit", "reply": ref("g"), "saved": "mine", "user": "\u00e9 \U0001f600"},
    {"type": "edit", "reply": ref("g"), "saved": "mine", "edit_of": "event-2"},
    {"type": "regeneration", "reply": ref("g"), "replacement": "h"},
    {"type": "acceptance", "reply": ref("g"), "user": "ann"},
    {"type": "rating", "reply": ref("g"), "thumb": "up"},
    {"type": "score", "reply": ref("g"), "criterion": "short", "value": 1.0, "by": "criterion"},
]
_NAMED = "INSERT INTO event_generations (task, generation_id, event_id) VALUES (:task, :generation, :event)"


def _said(number: int) -> Event:
    fields = {"user": None} | KINDS[number]
    return event(fields.pop("type"), f"event-{number}", **fields)
