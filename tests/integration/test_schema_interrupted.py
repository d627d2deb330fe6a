"""Migrations that end at any statement, and are then run again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders import NOON
from tests.conftest import own_database, require_program
from tests.system.processes import eventually, free_port
from worker.core.errors import StoreUnavailableError, UnsuitableDatabaseError
from worker.store import Store, schema
from worker.store.engine import open_engine
from worker.store.tables import notification

#: What changes the database. An end before any other statement leaves the same as an end before the next of these.
CHANGE = re.compile(r"\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE)\b")

DELETION = json.dumps({"DeleteType": "all", "MediaType": "video"})

#: Kills itself before the first statement of the migrations that contains a text.
KILLED = """
import os, signal, sys
import sqlalchemy as sa
from worker.store import schema

@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def kill(_connection, _cursor, statement, *_):
    if sys.argv[2] in statement:
        os.kill(os.getpid(), signal.SIGKILL)

schema.upgrade(sys.argv[1])
"""


@pytest.fixture
def mariadb_url() -> Iterator[str]:
    yield from own_database("mariadb")


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from own_database(request.param)


@contextmanager
def disconnecting(is_last: Callable[[str], bool]) -> Iterator[None]:
    """Close the connection, as the end of the process does, before the first change for which `is_last` returns True."""

    def before(connection: sa.Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if CHANGE.match(statement) and is_last(f"{statement} {parameters}"):
            driver_connection: Any = connection.connection.driver_connection
            # PyMySQL's close() says goodbye to the server, and fails if it is called twice.
            getattr(driver_connection, "_force_close", driver_connection.close)()

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)


def repeat_until_done(run: Callable[[], object]) -> int:
    """Repeat `run`. It is interrupted before each change once. Return how often it was."""
    reached: set[str] = set()

    def is_new(statement: str) -> bool:
        before = len(reached)
        reached.add(statement)
        return len(reached) > before

    while True:
        before = len(reached)
        with disconnecting(is_new):
            try:
                run()
            except StoreUnavailableError:
                if len(reached) == before:
                    raise
                continue
        return len(reached)


def described(url: str) -> dict[str, str]:
    """Return what the database has: each table with its columns, keys, indexes and options."""
    engine = open_engine(url)
    inspector = sa.inspect(engine)
    read: dict[str, Callable[[], Any]] = {
        "columns": inspector.get_multi_columns,
        "primary keys": inspector.get_multi_pk_constraint,
        "unique": inspector.get_multi_unique_constraints,
        "indexes": inspector.get_multi_indexes,
        "options": inspector.get_multi_table_options,
    }
    description = {f"{kind} of {name[1]}": repr(value) for kind, read_all in read.items() for name, value in read_all().items()}
    engine.dispose()
    return description


def migrated(url: str) -> dict[str, str]:
    """Return what a migration without interruptions leaves on the same server."""
    server = sa.make_url(url)
    for other in own_database(server.get_backend_name()):
        schema.upgrade(other)
        return described(other)
    raise AssertionError("unreachable")


def test_migrations_that_end_before_each_statement_continue_on_mariadb(mariadb_url: str) -> None:
    repeat_until_done(lambda: schema.upgrade(mariadb_url, revision="0009"))
    store = Store.open(mariadb_url)
    # One row more than one UPDATE of the migration takes.
    rows = [
        {
            "source": "default",
            "event_key": str(number),
            "event_type": "DeleteMediaComplete",
            "media_id": str(number),
            "status": "success",
            "body": DELETION,
            "received_at": NOON,
            "deliveries": 1,
        }
        for number in range(501)
    ]
    store.transact(lambda connection: connection.execute(sa.insert(notification), rows))

    interruptions = repeat_until_done(lambda: schema.upgrade(mariadb_url, revision="0010"))
    repeat_until_done(lambda: schema.upgrade(mariadb_url))

    with store.reading() as connection:
        decided = connection.execute(sa.select(sa.func.count()).where(notification.c.deletes.is_(True))).scalar()
    store.close()
    assert interruptions == 4, "the column, two times 500 rows, and the revision"
    assert decided == 501
    assert described(mariadb_url) == migrated(mariadb_url)


def test_reverted_migrations_that_end_before_each_statement_continue_on_mariadb(mariadb_url: str) -> None:
    schema.upgrade(mariadb_url)

    repeat_until_done(lambda: schema.downgrade(mariadb_url, revision="base"))

    assert {name for name in described(mariadb_url) if schema.VERSION_TABLE not in name} == set()


def test_a_killed_migration_continues(empty_url: str) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, empty_url, "ADD COLUMN claim"], env=os.environ, capture_output=True)
    is_one_transaction = not empty_url.startswith("mariadb")
    left = {name for name in described(empty_url) if name.startswith("columns")}

    schema.upgrade(empty_url)

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert bool(left) is not is_one_transaction
    if not empty_url.startswith("sqlite"):
        assert described(empty_url) == migrated(empty_url)
    store = Store.open(empty_url)
    assert schema.pending(store) == []
    store.close()


def test_a_table_of_another_program_is_named_and_not_used(empty_url: str) -> None:
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE vod_mezzanine (id INTEGER)"))
    engine.dispose()

    with pytest.raises(UnsuitableDatabaseError, match=r"a table vod_mezzanine without the column source.*rename"):
        schema.upgrade(empty_url)


def test_a_locked_table_ends_the_migration_with_a_sentence(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.upgrade(server_url, revision="0009")
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", 1)
    store = Store.open(server_url)

    with store.reading() as reader:
        reader.execute(sa.select(sa.func.count()).select_from(notification))
        with pytest.raises(StoreUnavailableError, match=r"locked a table for more than 1 s.*vodsync migrate"):
            schema.upgrade(server_url)
    schema.upgrade(server_url)

    assert schema.check(store) == schema.REVISION
    store.close()


def test_a_migration_does_not_wait_for_ever_for_another_one(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATION_TIMEOUT", 1)
    engine = open_engine(server_url, migrating=True)

    with engine.begin() as other:
        schema._wait_for_others(other)
        with pytest.raises(StoreUnavailableError, match="another vodsync migrate has been running for more than 1 s"):
            schema.upgrade(server_url)
    engine.dispose()


def test_a_binary_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    port = free_port()
    # Without privilege tables the server needs no installation.
    options = (
        f"--no-defaults --skip-grant-tables --datadir={tmp_path} --socket={tmp_path}/socket --port={port} --user={os.getuid()}"
    )
    binary_log = f"--log-bin={tmp_path}/log --binlog-format=STATEMENT --server-id=1 --innodb-log-file-size=4M"
    command = [require_program("mariadbd"), *options.split(), *binary_log.split(), "--bind-address=127.0.0.1"]
    url = f"mariadb://root@127.0.0.1:{port}"
    with (tmp_path / "output").open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            administration = open_engine(f"{url}/information_schema")
            eventually(lambda: answers(administration), within=10, missing="the server's answer")
            with administration.connect() as connection:
                connection.execute(sa.text("CREATE DATABASE media"))

            with pytest.raises(UnsuitableDatabaseError, match="set binlog_format to ROW or MIXED"):
                schema.upgrade(f"{url}/media")
            with administration.connect() as connection:
                connection.execute(sa.text("SET GLOBAL binlog_format = ROW"))
            schema.upgrade(f"{url}/media")

            assert described(f"{url}/media")
            administration.dispose()
        finally:
            server.kill()


def answers(engine: sa.Engine) -> bool:
    try:
        engine.connect().close()
    except sa.exc.OperationalError:
        return False
    return True
