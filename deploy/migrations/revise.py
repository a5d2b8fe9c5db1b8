"""`make migration NUMBER=0002 MESSAGE="..."`: write the revision that brings the database to the tables as they are."""

import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.script import Script

from deploy.migrations import config, upgrade
from ingest.database import Database


def revise(number: str, message: str) -> Path:
    """Compare an empty database, brought to the newest revision, with the tables of all stages."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/revise.db"
        upgrade(url)
        database = Database(url)
        with database.engine.connect() as connection:
            made = command.revision(config(connection), message, autogenerate=True, rev_id=number)
        database.close()
    assert isinstance(made, Script)
    return Path(made.path)


def tidy(revision: Path) -> None:
    """As the rest of the code reads, without Alembic's remarks."""
    lines = revision.read_text().splitlines(keepends=True)
    revision.write_text("".join(line for line in lines if not line.lstrip().startswith("# ###")))
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", revision], check=True)


if __name__ == "__main__":
    tidy(revise(*sys.argv[1:3]))
