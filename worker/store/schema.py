"""Read the schema revision of the database, and run the migrations to the revision that this release needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from worker.core.errors import StaleSchemaError, StoreUnavailableError, UnsuitableDatabaseError
from worker.store import Store, administration, sessions, unavailable
from worker.store.engine import open_engine
from worker.store.server_errors import is_lock_timeout
from worker.store.session_limits import LOCK_TIMEOUT
from worker.store.tables import metadata

#: The revision that this release needs. A test proves that it is the newest migration.
REVISION = "0012"

VERSION_TABLE = "vod_schema_version"

MIGRATION_TIMEOUT = 600  # seconds to wait for another process that migrates

_LOCK = "vodsync-migrate"

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
    with store.reading() as connection:
        if sa.inspect(connection).has_table(VERSION_TABLE):
            # Another process created the table since the first query, or this raises again why it cannot be read.
            return connection.execute(_CURRENT).scalar()
        instruction = administration.hidden_tables(connection)
        if instruction:
            raise UnsuitableDatabaseError(f"the database hides its vodsync tables; {instruction}")
    return None


def check(store: Store) -> str:
    """Return the revision of the database. Raises StaleSchemaError, which names the command to run, if it is too old."""
    revision = current(store)
    if revision is None:
        raise StaleSchemaError("the database has no vodsync tables yet; run: vodsync migrate")
    # A newer schema is accepted, because every migration is safe while the previous release runs.
    if revision < REVISION:
        raise StaleSchemaError(f"the database has schema {revision}, this release needs {REVISION}; run: vodsync migrate")
    return revision


def _check_tables(store: Store) -> None:
    if not store.is_file_missing():
        with store.reading() as connection:
            sessions.check_tables(connection, metadata.tables)


def describe_revision(revision: str) -> str:
    """Return a sentence for the operator about a schema that is not older than this release needs."""
    if revision > REVISION:
        return f"schema {revision} is newer than this release needs ({REVISION}); running on it"
    return f"the database has schema revision {revision}"


def check_start(store: Store) -> str:
    """Like `check`, and raises UnsuitableDatabaseError if a table was changed so that it loses data. For the start of a process."""
    revision = check(store)
    _check_tables(store)
    return revision


def pending(store: Store) -> list[Migration]:
    """Return the migrations that are not applied yet, the oldest first. There is none if the schema is newer than this release."""
    from alembic.script import ScriptDirectory

    revision = current(store)
    scripts = ScriptDirectory.from_config(_configuration())
    return [
        Migration(script.revision, (script.doc or "").splitlines()[0])
        for script in reversed(list(scripts.walk_revisions()))
        if revision is None or script.revision > revision
    ]


def upgrade(url: str, *, schema: str | None = None, revision: str = REVISION) -> str:
    """Apply the migrations up to `revision`. Return the revision of the database, which is newer if a newer release migrated it.

    If there is nothing to apply, nothing is locked or written, so that no privilege is needed for it. Of two processes that do this
    at once, the second waits for the first. A run that was interrupted can be repeated.

    Raises StoreUnavailableError; UnsuitableDatabaseError if a privilege is missing or a table has one of our names.
    """
    with _store(url, schema) as store:
        present = current(store)
        _check_tables(store)
        if present is None or present < revision:
            _run(store, "upgrade", revision, schema=schema)
        return max(present or "", revision)


def downgrade(url: str, *, schema: str | None = None, revision: str) -> None:
    """Revert migrations down to `revision`, "base" for all. For tests, and for an operator after a failed release."""
    with _store(url, schema) as store:
        _run(store, "downgrade", revision, schema=schema)


@contextmanager
def _store(url: str, schema: str | None) -> Iterator[Store]:
    store = Store(open_engine(url, schema=schema, migrating=True))
    try:
        yield store
    finally:
        store.close()


def _run(store: Store, command: str, revision: str, *, schema: str | None) -> None:
    import alembic.command
    from alembic.util import CommandError

    try:
        with store.engine.begin() as connection:
            _wait_for_others(connection)
            if schema and connection.dialect.name == "postgresql" and not sa.inspect(connection).has_schema(schema):
                connection.execute(sa.schema.CreateSchema(schema))
            sessions.require_schema(connection, schema)
            configuration = _configuration()
            configuration.attributes["connection"] = connection
            if command != "upgrade" or _is_behind(connection, revision):
                getattr(alembic.command, command)(configuration, revision)
            if connection.dialect.name in ("mysql", "mariadb"):
                connection.execute(sa.text(f"SELECT RELEASE_LOCK('{_LOCK}')"))
    except CommandError as error:
        raise UnsuitableDatabaseError(str(error)) from error
    except SQLAlchemyError as error:
        if is_lock_timeout(getattr(error, "orig", None)):
            raise StoreUnavailableError(
                f"another session has locked a table for more than {LOCK_TIMEOUT} s, so nothing was changed in it; wait until long "
                "transactions have ended, and run again: vodsync migrate"
            ) from error
        raise unavailable(error, store.engine) from error


def _is_behind(connection: sa.Connection, revision: str) -> bool:
    """Return whether the database is older than `revision`. Another process may have migrated while this one waited."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return True
    present = connection.execute(_CURRENT).scalar()
    return present is None or present < revision


def _wait_for_others(connection: sa.Connection) -> None:
    """Take the lock that keeps two processes from migrating at once. Raises StoreUnavailableError after MIGRATION_TIMEOUT."""
    is_locked = True
    if connection.dialect.name == "postgresql":
        # PostgreSQL applies lock_timeout to this lock as well.
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{MIGRATION_TIMEOUT}s'"))
        try:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock(hashtext('{_LOCK}'))"))
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
        except DBAPIError as error:
            if not is_lock_timeout(error.orig):
                raise
            is_locked = False
    elif connection.dialect.name in ("mysql", "mariadb"):
        is_locked = bool(connection.execute(sa.text(f"SELECT GET_LOCK('{_LOCK}', {MIGRATION_TIMEOUT})")).scalar())
        # DDL waits for its locks as long as lock_wait_timeout, which is a day or a year by default.
        connection.execute(sa.text(f"SET SESSION lock_wait_timeout = {LOCK_TIMEOUT}"))
    if not is_locked:
        raise StoreUnavailableError(
            f"another vodsync migrate has been running for more than {MIGRATION_TIMEOUT} s; wait for it, or end its session in the "
            "database, and run again: vodsync migrate"
        )


def _configuration() -> Any:
    from alembic.config import Config

    package = Path(__file__).parents[1]
    installed = package / "migrations"
    configuration = Config()
    configuration.set_main_option("script_location", str(installed if installed.is_dir() else package.parent / "migrations"))
    configuration.set_main_option("path_separator", "os")
    return configuration
