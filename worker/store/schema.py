"""Read the schema revision of the database, and run the migrations to the revision that this release needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from worker.core.errors import StaleSchemaError, StoreUnavailableError
from worker.store import Store, describe, sessions
from worker.store.engine import open_engine
from worker.store.tables import metadata

#: The revision that this release needs. A test proves that it is the newest migration.
REVISION = "0012"

VERSION_TABLE = "vod_schema_version"

_CURRENT = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608, the name is a constant


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration. `title` is the first line of its docstring."""

    revision: str
    title: str


def current(store: Store) -> str | None:
    """Return the revision of the database; None if it has no tables of vodsync. Raises StoreUnavailableError."""
    if store.is_file_missing():
        return None
    with store.reading() as connection:
        try:
            return connection.execute(_CURRENT).scalar()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
    if not sa.inspect(store.engine).has_table(VERSION_TABLE):
        return None
    # Another process created the table since the first query.
    with store.reading() as connection:
        return connection.execute(_CURRENT).scalar()


def check(store: Store) -> None:
    """Raises StaleSchemaError, which names the command to run, if the schema is older than this release needs."""
    revision = current(store)
    if revision is None:
        raise StaleSchemaError("the database has no vodsync tables yet; run: vodsync migrate")
    # A newer schema is accepted, because every migration is safe while the previous release runs.
    if revision < REVISION:
        raise StaleSchemaError(f"the database has schema {revision}, this release needs {REVISION}; run: vodsync migrate")


def check_start(store: Store) -> None:
    """Like `check`, and raises UnsuitableDatabaseError if a table was changed so that it loses data. For the start of a process."""
    check(store)
    with store.reading() as connection:
        sessions.check_tables(connection, metadata.tables)


def pending(store: Store) -> list[Migration]:
    """Return the migrations that are not applied yet, the oldest first."""
    from alembic.script import ScriptDirectory

    revision = current(store)
    scripts = ScriptDirectory.from_config(_configuration())
    return [
        Migration(script.revision, (script.doc or "").splitlines()[0])
        for script in reversed(list(scripts.walk_revisions()))
        if revision is None or script.revision > revision
    ]


def upgrade(url: str, *, schema: str | None = None, revision: str = "head") -> None:
    """Apply the migrations up to `revision`. Raises StoreUnavailableError.

    Of two processes that do this at once, the second waits for the first.
    """
    _run(url, schema, "upgrade", revision)


def downgrade(url: str, *, schema: str | None = None, revision: str) -> None:
    """Revert migrations down to `revision`, "base" for all. For tests, and for an operator after a failed release."""
    _run(url, schema, "downgrade", revision)


def _run(url: str, schema: str | None, command: str, revision: str) -> None:
    import alembic.command

    engine = open_engine(url, schema=schema, migrating=True)
    try:
        with engine.begin() as connection:
            if schema and engine.dialect.name == "postgresql":
                connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
            sessions.require_schema(connection, schema)
            _wait_for_others(connection)
            sessions.check_tables(connection, metadata.tables)
            configuration = _configuration()
            configuration.attributes["connection"] = connection
            getattr(alembic.command, command)(configuration, revision)
            if engine.dialect.name in ("mysql", "mariadb"):
                connection.execute(sa.text("SELECT RELEASE_LOCK('vodsync-migrate')"))
    except SQLAlchemyError as error:
        raise StoreUnavailableError(describe(error)) from error
    finally:
        engine.dispose()


def _wait_for_others(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('vodsync-migrate'))"))
    elif connection.dialect.name in ("mysql", "mariadb"):
        connection.execute(sa.text("SELECT GET_LOCK('vodsync-migrate', 600)"))


def _configuration() -> Any:
    from alembic.config import Config

    package = Path(__file__).parents[1]
    installed = package / "migrations"
    configuration = Config()
    configuration.set_main_option("script_location", str(installed if installed.is_dir() else package.parent / "migrations"))
    configuration.set_main_option("path_separator", "os")
    return configuration
