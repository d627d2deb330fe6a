"""Runs the migrations on the connection that `worker.store.schema` hands over, or offline for the `alembic` command."""

from alembic import context

from worker.settings import load
from worker.store.engine import open_engine
from worker.store.schema import VERSION_TABLE
from worker.store.tables import metadata


def run(connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    # Reached by the `alembic` command itself, which a developer uses to write the next migration.
    settings = load()
    with open_engine(settings.database_url.get_secret_value(), schema=settings.database_schema, migrating=True).begin() as opened:
        run(opened)
