"""Which schema the database has, and how it becomes the one that this release needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from worker.core.errors import StaleSchemaError, StoreUnavailableError
from worker.store import Store, describe
from worker.store.engine import open_engine

#: The revision that this release works with; a test proves it to be the newest migration.
REVISION = "0010"

VERSION_TABLE = "vod_schema_version"

_CURRENT = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Migration:
    """One step; `title` is its first line."""

    revision: str
    title: str


def current(store: Store) -> str | None:
    """The revision in the database; None where vodsync was never set up there."""
    if store.lacks_file():
        return None
    with store.reading() as connection:
        try:
            return connection.execute(_CURRENT).scalar()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
    if not sa.inspect(store.engine).has_table(VERSION_TABLE):
        return None
    # Somebody migrated meanwhile.
    with store.reading() as connection:
        return connection.execute(_CURRENT).scalar()


def check(store: Store) -> None:
    """Raises SchemaStale, naming the command to run, where the database has another schema than ours."""
    found = current(store)
    if found is None:
        raise StaleSchemaError("the database has no vodsync tables yet; run: vodsync migrate")
    # Migrations are safe while the previous release runs, so a newer schema is one that we can work with.
    if found < REVISION:
        raise StaleSchemaError(f"the database has schema {found}, this release needs {REVISION}; run: vodsync migrate")


def pending(store: Store) -> list[Migration]:
    """The migrations that are still to be applied, oldest first."""
    from alembic.script import ScriptDirectory

    found = current(store)
    scripts = ScriptDirectory.from_config(_configuration())
    return [
        Migration(script.revision, (script.doc or "").splitlines()[0])
        for script in reversed(list(scripts.walk_revisions()))
        if found is None or script.revision > found
    ]


def upgrade(url: str, *, schema: str | None = None, revision: str = "head") -> None:
    """Bring the database to `revision`; does nothing where it is there already. Two at once wait for each other."""
    _run(url, schema, "upgrade", revision)


def downgrade(url: str, *, schema: str | None = None, revision: str) -> None:
    """Take migrations back, down to `revision` ("base" for all). The tests use it; so may an operator after a failed release."""
    _run(url, schema, "downgrade", revision)


def _run(url: str, schema: str | None, command: str, revision: str) -> None:
    import alembic.command

    engine = open_engine(url, schema=schema, migrating=True)
    try:
        with engine.begin() as connection:
            if schema and engine.dialect.name == "postgresql":
                connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
            _wait_for_others(connection)
            configuration = _configuration()
            configuration.attributes["connection"] = connection
            getattr(alembic.command, command)(configuration, revision)
            if engine.dialect.name in ("mysql", "mariadb"):
                connection.execute(sa.text("SELECT RELEASE_LOCK('vodsync-migrate')"))
    except (OperationalError, InterfaceError) as error:
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
