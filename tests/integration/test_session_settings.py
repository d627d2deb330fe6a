"""Databases whose settings change what statements mean: pinned if possible, otherwise refused with a sentence."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from tests.builders import NOON, claimed, clip, notify
from tests.conftest import own_database
from worker.core.errors import StoreUnavailableError, UnsuitableDatabaseError
from worker.store import Store, schema, sessions, tables
from worker.store.catalogue import media_view
from worker.store.catalogue.assets import Catalogue

TITLE = "Ünï 🎬 视频 \\ ' \" % || `x`"

#: What ALTER DATABASE … SET may change, and the value that our sessions have all the same.
POSTGRESQL = {
    "DateStyle": ("'German, DMY'", "ISO, MDY"),
    "client_encoding": ("'LATIN1'", "UTF8"),
    "IntervalStyle": ("'sql_standard'", "postgres"),
    "bytea_output": ("'escape'", "hex"),
    "standard_conforming_strings": ("off", "on"),
    "extra_float_digits": ("-15", "3"),
    "timezone": ("'Asia/Shanghai'", "UTC"),
    "search_path": ("'pg_catalog'", "vod"),
    "row_security": ("off", "on"),
    "transform_null_equals": ("on", "off"),
    "plan_cache_mode": ("'force_generic_plan'", "force_custom_plan"),
    "lock_timeout": ("'1min'", "5s"),
    "statement_timeout": ("'1min'", "10s"),
    "synchronous_commit": ("off", "on"),
}

MYSQL = (
    "sql_mode='ORACLE'",
    "sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,ONLY_FULL_GROUP_BY'",
    "sql_mode=''",
    "NAMES latin1",
    "character_set_client=latin1, character_set_connection=latin1, character_set_results=latin1",
    "collation_connection='latin1_german2_ci'",
    "tx_isolation='SERIALIZABLE'",
    "time_zone='+08:00'",
    "autocommit=1",
    "sql_safe_updates=1, sql_auto_is_null=1, completion_type=CHAIN",
    "sql_select_limit=1, sql_big_selects=0, max_join_size=1",
)


def assert_round_trip(store: Store) -> None:
    """Store and claim a notification, and store and read an asset with dates, an emoji and decimals."""
    with store.engine.begin() as connection:
        for table in tables.metadata.sorted_tables:
            connection.execute(table.delete())
    assert notify(store, "a") == 1
    assert claimed(store).media_ids == ["a"]
    asset = clip("a", Title=TITLE, CreationTime="2025-11-04T15:59:00Z")
    store.transact(lambda connection: Catalogue(connection).save("default", [asset], observed_at=NOON))
    with store.reading() as connection:
        stored = media_view.find(connection, "default", "a")
    assert stored is not None
    assert (stored["title"], stored["observed_at"]) == (TITLE, NOON)
    assert stored["created_at"] == datetime(2025, 11, 4, 15, 59, tzinfo=UTC)
    assert stored["mezzanine"]["duration"] == Decimal("61.027")
    assert stored["video_streams"][0]["fps"] == Decimal("29.970030")


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    for url in own_database("postgresql"):
        schema.upgrade(url, schema="vod")
        yield url


def administer(url: str, *statements: str) -> None:
    driver = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}[sa.make_url(url).get_backend_name()]
    engine = sa.create_engine(sa.make_url(url).set(drivername=driver), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if driver == "postgresql+psycopg":
            # Otherwise a setting of the database that a test has made could not be undone.
            connection.exec_driver_sql("SET default_transaction_read_only = off")
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def current(store: Store, name: str) -> str | None:
    with store.reading() as connection:
        return connection.execute(sa.text("SELECT current_setting(:name, true)"), {"name": name}).scalar()


@contextmanager
def altered(url: str, setting: str) -> Iterator[Store]:
    """Open the store after ALTER DATABASE … SET, and undo that at the end."""
    database = sa.make_url(url).database
    administer(url, f"ALTER DATABASE {database} SET {setting}")
    store = Store.open(url, schema="vod")
    try:
        yield store
    finally:
        store.close()
        administer(url, f"ALTER DATABASE {database} RESET ALL")


@pytest.mark.parametrize("name", POSTGRESQL)
def test_postgresql_settings_of_a_database_are_pinned(postgresql_url: str, name: str) -> None:
    value, expected = POSTGRESQL[name]
    with altered(postgresql_url, f"{name} = {value}") as store:
        assert_round_trip(store)
        schema.upgrade(postgresql_url, schema="vod")

        assert current(store, name) == expected


def test_the_isolation_level_of_postgresql_is_pinned(postgresql_url: str) -> None:
    with altered(postgresql_url, "default_transaction_isolation = serializable") as store:
        assert_round_trip(store)

        assert current(store, "transaction_isolation") == "read committed"


@pytest.mark.parametrize("value", ["local", "remote_write"])
def test_which_standbys_a_commit_waits_for_is_not_changed(postgresql_url: str, value: str) -> None:
    with altered(postgresql_url, f"synchronous_commit = {value}") as store:
        assert current(store, "synchronous_commit") == value


def test_a_read_only_database_stays_read_only_and_is_named(postgresql_url: str) -> None:
    with altered(postgresql_url, "default_transaction_read_only = on") as store:
        attempts: list[Callable[[], object]] = [lambda: schema.upgrade(postgresql_url, schema="fresh"), lambda: notify(store, "a")]
        for attempt in attempts:
            with pytest.raises(StoreUnavailableError, match="in a read-only transaction"):
                attempt()


@pytest.mark.parametrize(
    ("variable", "value"), [("PGTZ", "Asia/Shanghai"), ("PGDATESTYLE", "German"), ("PGCLIENTENCODING", "latin1")]
)
def test_postgresql_settings_of_the_environment_are_pinned(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    store = Store.open(f"{postgresql_url}?client_encoding=latin1", schema="vod")

    assert_round_trip(store)

    store.close()


@pytest.mark.parametrize("in_url", [True, False])
def test_other_startup_options_of_the_user_are_kept(postgresql_url: str, monkeypatch: pytest.MonkeyPatch, in_url: bool) -> None:
    options = r"-c work_mem=7MB -c DateStyle=German -c app.note=50%\ off"
    if in_url:
        store = Store.open(f"{postgresql_url}?options={quote(options)}", schema="vod")
    else:
        monkeypatch.setenv("PGOPTIONS", options)
        store = Store.open(postgresql_url, schema="vod")

    values = [current(store, name) for name in ("work_mem", "app.note", "DateStyle", "search_path")]

    assert values == ["7MB", "50% off", "ISO, MDY", "vod"]
    store.close()


def test_the_search_path_of_the_user_decides_where_tables_are_created(postgresql_url: str) -> None:
    administer(postgresql_url, "CREATE SCHEMA theirs")

    schema.upgrade(f"{postgresql_url}?options=-c%20search_path%3Dtheirs")

    engine = sa.create_engine(sa.make_url(postgresql_url).set(drivername="postgresql+psycopg"))
    inspector = sa.inspect(engine)
    assert inspector.has_table("vod_media", schema="theirs")
    assert not inspector.has_table("vod_media", schema="public")
    engine.dispose()


def test_tables_are_not_created_if_no_schema_of_the_search_path_exists(postgresql_url: str) -> None:
    with pytest.raises(UnsuitableDatabaseError, match="no schema of search_path exists"):
        schema.upgrade(f"{postgresql_url}?options=-c%20search_path%3Dmissing")


def test_tables_are_not_created_in_another_schema_than_the_configured_one(postgresql_url: str) -> None:
    store = Store.open(postgresql_url, schema="vod")

    with store.reading() as connection:
        sessions.require_schema(connection, "vod")
        with pytest.raises(
            UnsuitableDatabaseError, match="new tables would be in the schema vod, but VODSYNC_DATABASE_SCHEMA is other"
        ):
            sessions.require_schema(connection, "other")
    store.close()


def test_a_schema_that_the_role_may_not_use_is_named(postgresql_url: str) -> None:
    url, role = sa.make_url(postgresql_url), f"vodsync_test_{secrets.token_hex(6)}"
    administer(postgresql_url, "CREATE SCHEMA unusable", f"CREATE ROLE {role} LOGIN")
    administer(postgresql_url, f"GRANT CREATE ON DATABASE {url.database} TO {role}", f"GRANT ALL ON SCHEMA public TO {role}")
    try:
        with pytest.raises(UnsuitableDatabaseError, match=f"GRANT USAGE, CREATE ON SCHEMA unusable TO {role}"):
            schema.upgrade(url.set(username=role).render_as_string(hide_password=False), schema="unusable")
    finally:
        administer(postgresql_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}", "DROP SCHEMA unusable")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_postgresql_database_that_cannot_store_every_title_is_refused(postgresql_url: str, encoding: str) -> None:
    name = f"{sa.make_url(postgresql_url).database}_encoding"
    administer(postgresql_url, f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    url = sa.make_url(postgresql_url).set(database=name).render_as_string(hide_password=False)
    store = Store.open(url)
    attempts: list[Callable[[], object]] = [lambda: schema.upgrade(url), lambda: schema.check(store), lambda: notify(store, "a")]
    try:
        for attempt in attempts:
            with pytest.raises(UnsuitableDatabaseError, match=f"encoding {encoding}, which cannot store every title; create one"):
                attempt()
    finally:
        store.close()
        administer(postgresql_url, f"DROP DATABASE {name}")


def test_disabled_constraints_are_refused(postgresql_url: str) -> None:
    with pytest.raises(UnsuitableDatabaseError, match="session_replication_role=replica"):
        schema.upgrade(f"{postgresql_url}?options=-c%20session_replication_role%3Dreplica", schema="vod")


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ("sslmode=always", "sslmode"),
        ("keepalives=x", "keepalives"),
        ("connect_timeout=soon", "connect_timeout"),
        ("options=-c%20work_mem%3Dmuch", "work_mem"),
        ("options=-c%20no_such_setting%3D1", "no_such_setting"),
    ],
)
def test_a_value_that_libpq_or_postgresql_refuses_is_named(postgresql_url: str, parameters: str, reason: str) -> None:
    with pytest.raises(UnsuitableDatabaseError, match=f"{reason}.*correct VODSYNC_DATABASE_URL") as refused:
        schema.upgrade(f"{postgresql_url}?{parameters}")

    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def mariadb_url() -> Iterator[str]:
    for url in own_database("mariadb"):
        schema.upgrade(url)
        yield url


@pytest.mark.parametrize("settings", MYSQL)
def test_mariadb_settings_of_a_session_are_pinned(mariadb_url: str, settings: str) -> None:
    # What init_connect of the server sets has been set before this as well.
    url = f"{mariadb_url}?charset=utf8&init_command={quote(f'SET {settings}')}"
    store = Store.open(url)

    assert_round_trip(store)
    schema.upgrade(url)

    store.close()


def test_other_settings_of_the_init_command_are_kept(mariadb_url: str) -> None:
    store = Store.open(f"{mariadb_url}?init_command={quote('SET lock_wait_timeout=123')}")

    with store.reading() as connection:
        timeouts = connection.execute(sa.text("SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout")).one()

    assert tuple(timeouts) == (123, 5)
    store.close()


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (f"init_command={quote('SET no_such_variable=1')}", "no_such_variable"),
        ("init_command=nonsense", "nonsense"),
        ("collation=latin1_bin", "latin1_bin"),
        (f"ssl_ca={quote(os.path.abspath(__file__))}", "parameter that cannot be used"),
    ],
)
def test_a_parameter_that_mariadb_or_its_driver_refuses_is_named(mariadb_url: str, parameters: str, reason: str) -> None:
    with pytest.raises(UnsuitableDatabaseError, match=reason):
        schema.upgrade(f"{mariadb_url}?{parameters}")


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ("CONVERT TO CHARACTER SET latin1", "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
        ("CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
        ("ENGINE=MyISAM", "ENGINE=InnoDB"),
    ],
)
def test_a_mariadb_table_that_loses_data_is_refused_with_the_statement_that_corrects_it(
    mariadb_url: str, change: str, remedy: str
) -> None:
    store = Store.open(mariadb_url)
    schema.check_start(store)
    administer(mariadb_url, f"ALTER TABLE vod_notification {change}")
    try:
        attempts: list[Callable[[], object]] = [lambda: schema.upgrade(mariadb_url), lambda: schema.check_start(store)]
        for attempt in attempts:
            with pytest.raises(UnsuitableDatabaseError) as refused:
                attempt()
            assert str(refused.value).endswith(f"ALTER TABLE vod_notification {remedy}")
    finally:
        administer(mariadb_url, f"ALTER TABLE vod_notification {remedy}")
    schema.check_start(store)
    store.close()


def test_a_database_with_another_character_set_gets_the_right_tables(mariadb_url: str) -> None:
    schema.downgrade(mariadb_url, revision="base")
    administer(mariadb_url, f"ALTER DATABASE {sa.make_url(mariadb_url).database} CHARACTER SET latin1")

    schema.upgrade(mariadb_url)

    store = Store.open(mariadb_url)
    schema.check_start(store)
    assert_round_trip(store)
    store.close()


def test_the_lock_timeout_of_a_sqlite_url_is_used(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/vodsync.db?timeout=17"
    schema.upgrade(url)
    store = Store.open(url)

    with store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 17_000
    store.close()
