"""Migrations make exactly the tables that the stages describe, on both databases."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from deploy.migrations import upgrade
from deploy.migrations.tables import compare_type, metadata
from ingest.database import Database

ROOT = Path(__file__).parents[2]
AT_ONCE = 4


def differences(url: str) -> list[Any]:
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": compare_type})
            return list(compare_metadata(context, metadata()))
    finally:
        database.close()


def test_the_migrations_make_exactly_the_tables_that_the_stages_describe(url: str) -> None:
    assert differences(url)
    upgrade(url)
    assert differences(url) == []


def test_a_second_upgrade_changes_nothing(url: str) -> None:
    upgrade(url)
    upgrade(url)
    assert differences(url) == []


def test_processes_that_upgrade_at_once_do_not_harm_each_other(url: str) -> None:
    command = [sys.executable, "-c", "import sys; from deploy.migrations import upgrade; upgrade(sys.argv[1])", url]
    started = [subprocess.Popen(command, cwd=ROOT) for _ in range(AT_ONCE)]
    assert [process.wait(60) for process in started] == [0] * AT_ONCE
    assert differences(url) == []
