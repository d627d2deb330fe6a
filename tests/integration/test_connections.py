"""Connections of the pool that are dead or useless are replaced, and a transaction that meets one is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from tests.conftest import own_database
from tests.system.processes import eventually
from tests.system.proxy import proxied
from worker.core.errors import StoreUnavailableError
from worker.store import MAX_ATTEMPTS, MAX_READ_ONLY_ATTEMPTS, Store, connections, session_limits

CONNECTIONS = MAX_ATTEMPTS + 2  # in the pool; more than a transaction has attempts

_NUMBERS = sa.Table("numbers", sa.MetaData(), sa.Column("number", sa.Integer))


@dataclass
class Server:
    """A database of the test's own, and an administrator's connection to its server."""

    name: str
    url: str
    admin: Connection

    @property
    def is_postgresql(self) -> bool:
        return self.name == "postgresql"

    def choose(self, postgresql: str, mariadb: str) -> str:
        return postgresql if self.is_postgresql else mariadb

    def sessions(self) -> list[int]:
        """Return the ids of all sessions in the database but the administrator's."""
        query = self.choose(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
        )
        return [int(row[0]) for row in self.admin.exec_driver_sql(query)]

    def end_sessions(self) -> None:
        for session in self.sessions():
            # It may have ended by itself since.
            with suppress(sa.exc.DBAPIError):
                self.admin.exec_driver_sql(self.choose(f"SELECT pg_terminate_backend({session})", f"KILL {session}"))
        self.wait_until_ended()

    def wait_until_ended(self) -> None:
        eventually(lambda: not self.sessions(), within=20, missing="an end of all sessions")

    def error(self, code: str) -> str:
        """Return a statement that fails with this SQLSTATE or number."""
        message = "The server is running with the --read-only option so it cannot execute this statement"
        return self.choose(
            f"DO $$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = '{code}'; END $$",
            f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = '{message}'",
        )


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    for url in own_database(request.param):
        store = Store.open(url)
        with store.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as admin:
            _NUMBERS.create(admin)
            # The administrator's session is idle while a test runs.
            admin.exec_driver_sql("SELECT 1" if request.param == "postgresql" else "SET wait_timeout=600")
            yield Server(request.param, url, admin)
        store.close()


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    opened = Store.open(server.url)
    yield opened
    opened.close()
    server.end_sessions()


def fill_pool(store: Store, *statements: str) -> None:
    """Open connections, run `statements` in each, and return them to the pool."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(store.engine.connect())
            connection.exec_driver_sql("SELECT 1")
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.commit()


def read_on_each(store: Store) -> None:
    """Read on as many connections at once as `fill_pool` opened."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(store.reading()).execute(sa.select(_NUMBERS))


class Write:
    """Counts how often `Store.transact` runs it."""

    def __init__(self) -> None:
        self.attempts = 0

    def __call__(self, connection: Connection) -> None:
        self.attempts += 1
        connection.execute(sa.insert(_NUMBERS).values(number=1))


# Dead connections


@pytest.mark.parametrize("reason", ["ended by an administrator", "idle for too long"])
def test_connections_that_the_server_closed_while_idle_are_replaced_before_they_are_used(
    server: Server, store: Store, reason: str
) -> None:
    if reason == "idle for too long":
        fill_pool(store, server.choose("SET SESSION idle_session_timeout = '50ms'", "SET SESSION wait_timeout = 1"))
    else:
        fill_pool(store)
        server.end_sessions()
    server.wait_until_ended()
    write = Write()

    read_on_each(store)
    store.transact(write)

    assert write.attempts == 1


def test_one_failed_attempt_replaces_a_whole_pool_of_dead_connections(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the server closed them between the check and the first statement.
    monkeypatch.setattr(connections, "_has_unread_data", lambda _connection: False)
    fill_pool(store)
    server.end_sessions()
    errors: list[object] = []
    sa.event.listen(store.engine, "handle_error", errors.append)

    store.transact(Write())
    read_on_each(store)

    assert len(errors) == 1


def test_an_idle_connection_that_was_dropped_without_a_word_is_replaced_before_it_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PING_AFTER", 0)
    monkeypatch.setattr(connections, "PING_TIMEOUT", 0.3)
    proxy, url = proxied(server.url)
    write = Write()
    with closing(proxy), closing(Store.open(url)) as store:
        fill_pool(store)

        proxy.forget()
        read_on_each(store)
        store.transact(write)

    assert write.attempts == 1


#: The connection is of no use any more, or another transaction was in the way.
REPEATED = {
    "postgresql": ["57P01", "57P02", "57P05", "25P03", "40001", "40P01", "55P03"],
    "mariadb": ["1053", "1927", "4031", "1047", "3032", "1213", "1205", "1020"],
}


def test_errors_that_a_new_connection_or_another_attempt_cures_are_not_seen(server: Server, store: Store) -> None:
    for code in REPEATED[server.name]:
        statements = iter([server.error(code)])

        def work(connection: Connection, statements: Iterator[str] = statements) -> str:
            for statement in statements:
                connection.exec_driver_sql(statement)
            return "done"

        assert store.transact(work) == "done", code


def test_an_error_that_ends_the_session_discards_the_connections(server: Server, store: Store) -> None:
    fill_pool(store)
    old = set(server.sessions())

    def work(connection: Connection) -> None:
        connection.exec_driver_sql(server.error(server.choose("57P01", "1053")))

    with suppress(StoreUnavailableError):
        store.transact(work)
    read_on_each(store)

    assert not old & set(server.sessions())


# A server that only reads


def test_connections_to_a_former_primary_are_replaced_at_the_first_write(server: Server, store: Store) -> None:
    """New connections lead to the new primary, because its name, or a proxy, does."""
    fill_pool(store, server.choose("SET SESSION default_transaction_read_only = on", "SET SESSION TRANSACTION READ ONLY"))
    write, again = Write(), Write()

    store.transact(write)
    store.transact(again)

    assert (write.attempts, again.attempts) == (2, 1)


#: read_only_sql_transaction; --read-only, a transaction, the server, InnoDB is read-only.
READ_ONLY = {"postgresql": ["25006"], "mariadb": ["1290", "1792", "1836", "1874"]}


def test_a_lasting_read_only_server_is_an_outage_with_a_sentence_of_its_own(server: Server, store: Store) -> None:
    for code in READ_ONLY[server.name]:
        attempts: list[str] = []

        def work(connection: Connection, code: str = code, attempts: list[str] = attempts) -> None:
            attempts.append(code)
            connection.exec_driver_sql(server.error(code))

        with pytest.raises(StoreUnavailableError, match=r"^the database server only reads: .*; check that .* leads to the primary"):
            store.transact(work)
        assert len(attempts) == MAX_READ_ONLY_ATTEMPTS


# Clients that vanish, and limits


def test_the_server_ends_the_transaction_of_a_client_that_has_vanished(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then its locks stop others. For the server, a client that sends nothing is the same as one without power."""
    monkeypatch.setattr(session_limits, "IDLE_TIMEOUT", 1)
    increment = sa.update(_NUMBERS).values(number=_NUMBERS.c.number + 1)
    with closing(Store.open(server.url)) as vanished, closing(Store.open(server.url)) as other:
        other.transact(lambda connection: connection.execute(sa.insert(_NUMBERS).values(number=2)))

        with suppress(sa.exc.DBAPIError), vanished.engine.connect() as connection:
            connection.execute(increment)
            other.transact(lambda connection: connection.execute(increment))
            with pytest.raises(sa.exc.DBAPIError) as caught:
                connection.execute(increment)
        vanished.transact(lambda connection: connection.execute(increment))

    assert caught.value.connection_invalidated


def test_a_server_without_another_connection_is_an_outage_with_a_sentence_of_its_own(server: Server) -> None:
    database = sa.make_url(server.url).database
    server.admin.exec_driver_sql(
        server.choose(
            f"CREATE ROLE {database} LOGIN PASSWORD 'secret' CONNECTION LIMIT 1",
            f"CREATE USER {database} IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 1",
        )
    )
    if not server.is_postgresql:
        server.admin.exec_driver_sql(f"GRANT ALL ON {database}.* TO {database}")
    url = sa.make_url(server.url).set(username=database, password="secret")
    with closing(Store.open(url.render_as_string(hide_password=False))) as limited, limited.reading() as first:
        first.exec_driver_sql("SELECT 1")

        with pytest.raises(StoreUnavailableError, match=r"^the database server has no connection left: .*; raise its limit"):
            limited.transact(Write())

    server.end_sessions()
    server.admin.exec_driver_sql(f"DROP {server.choose('ROLE', 'USER')} {database}")


def test_each_thread_of_a_large_process_has_its_connection(server: Server, store: Store) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(store.reading()).exec_driver_sql("SELECT 1")

        count = len(server.sessions())

    assert count == 40
