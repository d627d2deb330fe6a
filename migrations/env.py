"""Run the migrations, on the connection of `worker.store.schema` or for the `alembic` command."""

from pathlib import Path

from alembic import context
from alembic.util import load_python_file

from worker.settings import load
from worker.store import sessions
from worker.store.engine import open_engine
from worker.store.schema import VERSION_TABLE
from worker.store.tables import metadata

# By its path, as Alembic loads this file: the folder is not a package.
load_python_file(str(Path(__file__).parent), "repeatable.py")


def run(connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


given_connection = context.config.attributes.get("connection")
if given_connection is not None:
    run(given_connection)
else:
    # The `alembic` command, with which a developer creates the next migration.
    settings = load()
    schema = settings.database_schema
    with open_engine(settings.database_url.get_secret_value(), schema=schema, migrating=True).begin() as opened:
        sessions.require_schema(opened, schema)
        run(opened)
