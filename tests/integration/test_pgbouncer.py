"""PostgreSQL through PgBouncer, with each pool mode, and whether it refuses or drops our startup options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from tests.conftest import own_database
from tests.integration.test_session_settings import administer, assert_round_trip, current
from tests.pgbouncer import pgbouncer
from worker.core.errors import UnsuitableDatabaseError
from worker.store import Store, schema
from worker.store.sessions import is_pooled

SETTINGS = ("search_path", "datestyle", "timezone", "statement_timeout", "lock_timeout", "plan_cache_mode", "synchronous_commit")

#: The names that psycopg gives to the statements that it prepares.
DRIVER_NAMES = [f"_pg3_{number}" for number in range(20)]


@pytest.fixture(scope="module")
def direct_url() -> Iterator[str]:
    yield from own_database("postgresql")


@pytest.fixture(scope="module", params=["session", "session ignoring", "transaction", "transaction ignoring"])
def pooled_url(request: pytest.FixtureRequest, direct_url: str) -> Iterator[str]:
    """The database through a PgBouncer that has one server session, which its clients share if it pools transactions."""
    pool_mode, _, ignoring = request.param.partition(" ")
    # In session mode each client has a server session of its own.
    pool_size = 1 if pool_mode == "transaction" else 10
    with pgbouncer(direct_url, pool_mode=pool_mode, ignored="options" if ignoring else "", pool_size=pool_size) as url:
        yield url


@pytest.fixture
def store(pooled_url: str, direct_url: str) -> Iterator[Store]:
    administer(direct_url, "DROP SCHEMA IF EXISTS vod CASCADE")
    schema.upgrade(pooled_url, schema="vod")
    opened = Store.open(pooled_url, schema="vod")
    yield opened
    opened.close()


@contextmanager
def client(url: str) -> Iterator[sa.Connection]:
    """Another client of the pooler, which prepares no statements by itself."""
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        connect_args={"prepare_threshold": None},
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def shown(connection: sa.Connection) -> list[str]:
    return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in SETTINGS]


def test_tables_are_in_the_schema_and_nowhere_else(store: Store, direct_url: str) -> None:
    assert_round_trip(store)

    with store.reading() as connection:
        assert is_pooled(connection)
    with client(direct_url) as connection:
        schemas = (
            connection.exec_driver_sql("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'vod%%'").scalars().all()
        )
    assert schemas == ["vod"]


def test_settings_hold_in_each_transaction_and_reach_no_other_client(store: Store, pooled_url: str) -> None:
    with client(pooled_url) as other:
        before = shown(other)
        ours = [current(store, name) for name in SETTINGS]
        assert_round_trip(store)

        assert shown(other) == before
    assert ours == ["vod", "ISO, MDY", "UTC", "10s", "5s", "force_custom_plan", "on"]
    assert before[0] != "vod"


def test_statements_that_other_clients_prepared_are_not_executed(store: Store, pooled_url: str) -> None:
    with client(pooled_url) as other:
        for name in DRIVER_NAMES:
            other.exec_driver_sql(f"PREPARE {name} AS SELECT 'of another client'")
        try:
            # psycopg would prepare a statement at its fifth execution, if no transaction is rolled back meanwhile.
            for _ in range(8):
                assert store.transact(lambda connection: connection.scalar(sa.text("SELECT current_schema()"))) == "vod"
            assert_round_trip(store)
            prepared = other.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
        finally:
            for name in DRIVER_NAMES:
                other.exec_driver_sql(f"DEALLOCATE {name}")
    assert prepared == len(DRIVER_NAMES)


def test_settings_of_the_database_and_of_the_user_are_treated_as_without_a_pooler(
    direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = sa.make_url(direct_url).database
    administer(direct_url, "DROP SCHEMA IF EXISTS vod CASCADE", f"ALTER DATABASE {database} SET DateStyle = 'German, DMY'")
    monkeypatch.setenv("PGOPTIONS", r"-c work_mem=7MB -c app.note=50%\ off")
    with pgbouncer(direct_url, pool_mode="transaction") as url:
        schema.upgrade(url, schema="vod")
        opened = Store.open(url, schema="vod")
        try:
            assert_round_trip(opened)
            assert [current(opened, name) for name in ("work_mem", "app.note", "datestyle")] == ["7MB", "50% off", "ISO, MDY"]
        finally:
            opened.close()
            administer(direct_url, f"ALTER DATABASE {database} RESET ALL")


def test_an_encoding_that_cannot_store_every_title_is_refused(pooled_url: str, direct_url: str) -> None:
    name = f"{sa.make_url(direct_url).database}_encoding"
    administer(direct_url, f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        with pytest.raises(UnsuitableDatabaseError, match="encoding SQL_ASCII"):
            schema.upgrade(sa.make_url(pooled_url).set(database=name).render_as_string(hide_password=False))
    finally:
        administer(direct_url, f"DROP DATABASE {name} WITH (FORCE)")
