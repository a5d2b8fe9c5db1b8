"""`python -m deploy.migrations.revise NUMBER MESSAGE`: write the revision that brings the database to the tables as they are."""

import sys
import tempfile

from alembic import command

from deploy.migrations import config, upgrade
from ingest.database import Database


def revise(number: str, message: str) -> None:
    """Compare an empty database, brought to the newest revision, with the tables of all stages."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/revise.db"
        upgrade(url)
        database = Database(url)
        with database.engine.connect() as connection:
            command.revision(config(connection), message, autogenerate=True, rev_id=number)
        database.close()


if __name__ == "__main__":
    revise(*sys.argv[1:3])
