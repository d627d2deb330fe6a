"""A user of the database that lacks a privilege: each message has the GRANT that is missing, and that GRANT is enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from tests.builders import NOON, notify
from tests.conftest import own_database
from tests.database_users import User, user_without_privileges
from worker import runtime
from worker.cli.checks.services import check_database
from worker.core.errors import StoreUnavailableError, UnsuitableDatabaseError
from worker.settings import Settings
from worker.store import Store, schema
from worker.store.tables import media, notification

USE = "SELECT, INSERT, UPDATE, DELETE"


@pytest.fixture
def postgresql() -> Iterator[User]:
    for url in own_database("postgresql"):
        with user_without_privileges(url) as user:
            yield user


@pytest.fixture
def mariadb() -> Iterator[User]:
    for url in own_database("mariadb"):
        with user_without_privileges(url) as user:
            yield user


@pytest.fixture(params=["postgresql", "mariadb"])
def user(request: pytest.FixtureRequest) -> User:
    """A user without privileges in an empty database."""
    created: User = request.getfixturevalue(request.param)
    return created


def migrate_as_administrator(user: User, revision: str = schema.REVISION) -> None:
    schema.upgrade(administrator_url(user), revision=revision)


def administrator_url(user: User) -> str:
    return user._engine.url.render_as_string(hide_password=False)


def grant_use(user: User) -> None:
    """Grant what the roles need and nothing else."""
    if user.url.startswith("postgresql"):
        user.administrate(f"GRANT {USE} ON ALL TABLES IN SCHEMA public TO {{user}}")
    else:
        user.administrate(f"GRANT {USE} ON {{database}}.* TO {{user}}")


def test_migrate_names_what_a_user_of_mariadb_lacks(mariadb: User) -> None:
    _, statements = mariadb.obey(lambda: schema.upgrade(mariadb.url))

    account = mariadb.accounts[0]
    assert [statement.replace(mariadb.accounts[1], account) for statement in statements] == [
        f"GRANT {USE} ON `{mariadb.database}`.* TO {account}",
        f"GRANT {USE}, CREATE, ALTER, INDEX, DROP ON `{mariadb.database}`.* TO {account}",
    ]


def test_migrate_names_what_a_role_lacks_in_public(postgresql: User) -> None:
    # PostgreSQL 15 and newer have this by default.
    postgresql.administrate("REVOKE ALL ON SCHEMA public FROM PUBLIC")

    _, statements = postgresql.obey(lambda: schema.upgrade(postgresql.url))

    assert statements == [f"GRANT USAGE, CREATE ON SCHEMA public TO {postgresql.name}"]


def test_migrate_names_what_a_role_lacks_to_create_its_schema(postgresql: User) -> None:
    _, statements = postgresql.obey(lambda: schema.upgrade(postgresql.url, schema="media"))

    assert statements == [f"GRANT CREATE ON DATABASE {postgresql.database} TO {postgresql.name}"]


def test_migrate_names_what_a_role_lacks_in_a_schema_that_exists(postgresql: User) -> None:
    postgresql.administrate("CREATE SCHEMA media")

    _, statements = postgresql.obey(lambda: schema.upgrade(postgresql.url, schema="media"))

    assert statements == [f"GRANT USAGE, CREATE ON SCHEMA media TO {postgresql.name}"]


def test_migrate_uses_the_schema_of_an_administrator_without_a_privilege_on_the_database(postgresql: User) -> None:
    postgresql.administrate("CREATE SCHEMA media AUTHORIZATION {user}")

    schema.upgrade(postgresql.url, schema="media")

    store = Store.open(postgresql.url, schema="media")
    assert schema.check(store) == schema.REVISION
    store.close()


def test_migrate_names_the_owner_of_the_tables(postgresql: User) -> None:
    migrate_as_administrator(postgresql, "0009")
    grant_use(postgresql)
    owner = postgresql._engine.url.username

    _, statements = postgresql.obey(lambda: schema.upgrade(postgresql.url))

    assert statements == [f"GRANT {owner} TO {postgresql.name}"]


def test_a_role_without_access_to_the_database_or_the_schema_is_told_so(postgresql: User) -> None:
    migrate_as_administrator(postgresql)
    grant_use(postgresql)
    postgresql.administrate("REVOKE ALL ON SCHEMA public FROM PUBLIC", "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    store = Store.open(postgresql.url)

    _, statements = postgresql.obey(lambda: schema.check(store))

    store.close()
    assert statements == [
        f"GRANT CONNECT ON DATABASE {postgresql.database} TO {postgresql.name}",
        f"GRANT USAGE ON SCHEMA public TO {postgresql.name}",
    ]


def test_with_nothing_to_migrate_nothing_is_written_or_locked(user: User) -> None:
    migrate_as_administrator(user)
    grant_use(user)
    statements: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    try:
        schema.upgrade(user.url)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", record)

    assert any(text.startswith("SELECT version_num") for text in statements)
    assert [text for text in statements if "CREATE" in text or "_lock" in text.lower()] == []


def test_a_missing_privilege_on_a_table_is_named_by_reads_writes_and_the_doctor(user: User) -> None:
    migrate_as_administrator(user)
    grant = f"GRANT {USE} ON ALL TABLES IN SCHEMA public" if user.url.startswith("postgresql") else f"GRANT {USE} ON "
    if user.url.startswith("postgresql"):
        user.administrate("GRANT SELECT ON vod_schema_version, vod_sync_request TO {user}")
    else:
        user.administrate("GRANT SELECT ON {database}.vod_schema_version TO {user}")
    installation = runtime.Runtime(Settings(database_url=SecretStr(user.url)))
    store = installation.store

    with pytest.raises(UnsuitableDatabaseError, match="GRANT"), store.reading() as connection:
        connection.execute(sa.select(media.c.media_id))
    with pytest.raises(UnsuitableDatabaseError, match="GRANT"):
        notify(store, "a")
    message, statements = user.obey(lambda: check_database(installation))
    notify(store, "b")

    assert len(statements) == 1
    assert statements[0].startswith(grant)
    assert "reachable and writable" in message
    with store.reading() as connection:
        assert connection.execute(sa.select(notification.c.received_at)).scalars().all() == [NOON]
    store.close()


def test_the_doctor_finds_a_table_without_a_privilege(user: User) -> None:
    migrate_as_administrator(user)
    grant_use(user)
    if user.url.startswith("postgresql"):
        user.administrate("REVOKE DELETE ON vod_lease FROM {user}")
    else:
        tables = sa.inspect(user._engine).get_table_names()
        user.administrate(f"REVOKE {USE} ON {{database}}.* FROM {{user}}")
        user.administrate(*(f"GRANT {USE} ON {{database}}.{name} TO {{user}}" for name in tables if name != "vod_lease"))
        user.administrate("GRANT SELECT, INSERT, UPDATE ON {database}.vod_lease TO {user}")
    installation = runtime.Runtime(Settings(database_url=SecretStr(user.url)))

    with pytest.raises(UnsuitableDatabaseError, match=r"vod_lease.*GRANT SELECT, INSERT, UPDATE, DELETE ON"):
        check_database(installation)
    installation.store.close()


def test_without_a_second_connection_the_names_come_from_the_url(postgresql: User) -> None:
    from sqlalchemy.exc import ProgrammingError

    from worker.store import unavailable

    class InsufficientPrivilege(Exception):
        sqlstate = "42501"

    unreachable = sa.create_engine("postgresql+psycopg://app:secret@127.0.0.1:1/media")
    error = ProgrammingError("SELECT", {}, InsufficientPrivilege("permission denied for table vod_media"))

    refusal = unavailable(error, unreachable)

    assert isinstance(refusal, StoreUnavailableError)
    assert str(refusal).endswith(f"GRANT {USE} ON ALL TABLES IN SCHEMA public TO app")
