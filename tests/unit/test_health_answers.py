"""The answers of /livez, /readyz and /statusz, with a database file, a spool and faults that the test sets."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, Engine

from tests.builders import NOON, body, notify, request
from tests.health_harness import Installation, states, unwritable
from worker import __version__
from worker.core import events
from worker.core.errors import StoreUnavailableError
from worker.store import Store, schema, tables
from worker.store.spool import Spool
from worker.sync.receive import delivery

#: No server listens on this port, so connections are refused at once.
UNREACHABLE_URL = "postgresql://vodsync@127.0.0.1:1/vodsync"

#: Seconds after which a frozen database answers, so that its threads end.
DEADLINE = 5


@pytest.fixture(scope="module")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('health') / 'vodsync.db'}"
    schema.upgrade(url)
    return url


@pytest.fixture
def store(migrated_file: str) -> Iterator[Store]:
    opened = Store.open(migrated_file)
    with opened.engine.begin() as connection:
        for table in tables.metadata.sorted_tables:
            connection.execute(table.delete())
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool.db")
    yield opened
    opened.close()


@pytest.fixture
def installation(store: Store, spool: Spool) -> Installation:
    return Installation(store, spool)


@pytest.fixture
def unreachable() -> Iterator[Store]:
    """A database whose server is down."""
    opened = Store.open(UNREACHABLE_URL)
    yield opened
    opened.close()


# /livez


def test_livez_answers_200_while_everything_else_is_down(unreachable: Store, tmp_path: Path) -> None:
    response = Installation(unreachable, unwritable(tmp_path)).livez()

    assert (response.status_code, response.body) == (200, b"ok")


# /readyz


def test_an_installation_without_faults_is_ready(installation: Installation) -> None:
    status, answer = installation.readyz()

    assert status == 200
    assert answer["ready"] is True
    assert states(answer) == {"database": "ok", "schema": "ok", "spool": "ok", "broker": "ok"}
    assert answer.keys() == {"ready", "parts"}


def test_an_installation_with_a_database_file_is_ready_without_a_spool(store: Store) -> None:
    status, answer = Installation(store, None).readyz()

    assert status == 200
    assert answer["parts"]["spool"] == {"state": "unused", "count": 0, "since": None}


def test_a_broker_outage_degrades_and_is_named(installation: Installation) -> None:
    installation.broker_fault = "connection refused"

    status, answer = installation.readyz()

    assert (status, answer["ready"]) == (200, True)
    assert answer["parts"]["broker"] == {"state": "degraded", "error": "connection refused"}
    assert states(answer) == {"database": "ok", "schema": "ok", "spool": "ok", "broker": "degraded"}


def test_a_database_that_refuses_notifications_degrades_while_the_spool_accepts_them(installation: Installation) -> None:
    installation.database_fault = "read-only transaction"

    status, answer = installation.readyz()

    assert (status, answer["ready"]) == (200, True)
    assert answer["parts"]["database"] == {"state": "degraded", "error": "read-only transaction"}
    assert states(answer) == {"database": "degraded", "schema": "ok", "spool": "ok", "broker": "ok"}


def test_a_database_that_refuses_notifications_is_down_if_the_spool_refuses_them_too(store: Store, tmp_path: Path) -> None:
    installation = Installation(store, unwritable(tmp_path))
    installation.database_fault = "read-only transaction"

    status, answer = installation.readyz()

    assert (status, answer["ready"], answer["reason"]) == (503, False, "database")
    assert answer["error"] == "database: read-only transaction"
    assert states(answer) == {"database": "down", "schema": "ok", "spool": "down", "broker": "ok"}


def test_a_database_file_that_can_only_be_read_is_down(store: Store) -> None:
    installation = Installation(store, None)
    installation.write_fault = "disk full"

    status, answer = installation.readyz()

    assert (status, answer["reason"], answer["error"]) == (503, "database", "database: disk full")
    assert states(answer) == {"database": "down", "schema": "ok", "spool": "unused", "broker": "ok"}


def test_a_database_server_that_is_down_degrades_while_the_spool_accepts_notifications(unreachable: Store, spool: Spool) -> None:
    status, answer = Installation(unreachable, spool).readyz()

    assert (status, answer["ready"]) == (200, True)
    assert states(answer) == {"database": "degraded", "schema": "degraded", "spool": "ok", "broker": "ok"}
    assert "the database did not accept the transaction" in answer["parts"]["database"]["error"]


@pytest.mark.parametrize("with_spool", [False, True], ids=["no spool", "unwritable spool"])
def test_a_database_server_that_is_down_is_reported_as_down_without_a_spool(
    unreachable: Store, tmp_path: Path, with_spool: bool
) -> None:
    status, answer = Installation(unreachable, unwritable(tmp_path) if with_spool else None).readyz()

    assert (status, answer["ready"], answer["reason"]) == (503, False, "database")
    assert states(answer)["database"] == "down"
    assert answer["error"].startswith("database: the database did not accept the transaction")


def test_a_spool_that_cannot_be_written_degrades_while_the_database_accepts_notifications(store: Store, tmp_path: Path) -> None:
    status, answer = Installation(store, unwritable(tmp_path)).readyz()

    assert (status, answer["ready"]) == (200, True)
    assert states(answer) == {"database": "ok", "schema": "ok", "spool": "degraded", "broker": "ok"}
    assert "unwritable.db" in answer["parts"]["spool"]["error"]


def test_a_full_disk_degrades_while_the_database_accepts_notifications(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(total=2**40, used=2**40, free=0))

    status, answer = installation.readyz()

    assert status == 200
    assert states(answer)["spool"] == "degraded"
    assert "only 0 MB are free" in answer["parts"]["spool"]["error"]


def test_spooled_notifications_are_counted(installation: Installation, spool: Spool) -> None:
    spool.put([delivery("default", events.parse(body(media_id)), received_at=NOON) for media_id in ("a", "b")])

    _, answer = installation.readyz()

    assert answer["parts"]["spool"] == {"state": "ok", "count": 2, "since": "2026-03-01T12:00:00Z"}


@pytest.mark.parametrize("revision", [None, "0008"], ids=["no tables", "older schema"])
def test_a_stale_schema_is_down_although_the_spool_accepts_notifications(
    spool: Spool, tmp_path: Path, revision: str | None
) -> None:
    url = f"sqlite:///{tmp_path / 'stale.db'}"
    if revision:
        schema.upgrade(url, revision=revision)
    stale = Store.open(url)

    status, answer = Installation(stale, spool).readyz()
    stale.close()

    assert (status, answer["ready"], answer["reason"]) == (503, False, "schema")
    assert states(answer) == {"database": "ok", "schema": "down", "spool": "ok", "broker": "ok"}
    assert answer["error"].startswith("schema: ")
    assert "run: vodsync migrate" in answer["error"]


class FrozenStore(Store):
    """A database that accepts connections, and answers nothing until `released` is set."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.released = threading.Event()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        self.released.wait(DEADLINE)
        raise StoreUnavailableError("released")
        yield


@pytest.fixture
def frozen(migrated_file: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrozenStore]:
    """A frozen database. Health waits for its answers only a tenth of the usual time."""
    timeout = asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout", lambda seconds: timeout(seconds / 10))
    opened = FrozenStore.open(migrated_file)
    assert isinstance(opened, FrozenStore)
    yield opened
    opened.released.set()
    opened.close()


def test_a_frozen_database_delays_no_answer_longer_than_three_seconds(frozen: FrozenStore, spool: Spool) -> None:
    spool.check()

    answers = Installation(frozen, spool).readyz_repeatedly(3)

    assert [status for status, _ in answers] == [200] * 3
    assert [states(answer)["database"] for _, answer in answers] == ["degraded"] * 3
    assert [states(answer)["spool"] for _, answer in answers] == ["ok"] * 3
    assert {answer["parts"]["database"]["error"] for _, answer in answers} == {"no answer within 3 s"}


# /statusz


def test_the_status_contains_version_schema_and_counts(installation: Installation, store: Store) -> None:
    notify(store, "a", "b")

    status = installation.statusz()

    assert status["version"] == __version__
    assert status["schema"] == {"revision": schema.REVISION, "expected": schema.REVISION}
    assert (status["database"], status["broker"]) == ({"state": "ok"}, {"state": "ok"})
    assert status["spool"] == {"state": "ok", "count": 0, "since": None}
    assert status["backlog"] == {"due": 2, "waiting": 0}
    assert (status["oldest_due_age_seconds"], status["notifications"], status["dead_letters"]) == (10, 2, 0)
    assert status["problems"] == []
    assert "changes" not in status


def test_the_status_contains_the_change_feed_if_it_is_on(installation: Installation) -> None:
    installation.has_change_feed = True

    assert installation.statusz()["changes"] == {"count": 0, "since": None}


def test_the_status_names_a_database_that_can_only_be_read(store: Store) -> None:
    installation = Installation(store, None)
    installation.write_fault = "disk full"

    status = installation.statusz()

    assert status["database"] == {"state": "down", "error": "disk full"}
    assert status["problems"] == ["notifications cannot be written to the database: disk full"]


def test_the_status_names_refused_notifications(installation: Installation) -> None:
    refusal = delivery("default", events.parse(body("a")), received_at=NOON), "too long"
    installation.refused.put([refusal], now=NOON)

    status = installation.statusz()

    assert status["refused"] == {"count": 1, "since": "2026-03-01T12:00:00Z"}
    (problem,) = status["problems"]
    assert problem.startswith("1 notification was refused by the database since 2026-03-01 12:00:00 UTC (too long)")
    assert "vodsync failures retry" in problem


def test_the_status_lists_the_problems_of_spool_callbacks_and_database(
    installation: Installation, store: Store, spool: Spool
) -> None:
    spool.put([delivery("default", events.parse(body("a")), received_at=NOON)])
    request(store, "a", source="another")
    installation.callback_problems = ["3 callbacks to source default refused"]

    in_spool, refused, unserved = installation.statusz()["problems"]

    assert "1 notification waits in the spool" in in_spool
    assert refused == "3 callbacks to source default refused"
    assert "1 sync request belongs to source another" in unserved


def test_requests_of_a_configured_source_are_not_a_problem(installation: Installation, store: Store) -> None:
    request(store, "a", source="another")
    installation.sources = ["default", "another"]

    assert installation.statusz()["problems"] == []


def test_the_status_names_the_errors_of_database_and_broker(installation: Installation) -> None:
    installation.database_fault = "read-only transaction"
    installation.broker_fault = "connection refused"

    status = installation.statusz()

    assert status["database"] == {"state": "degraded", "error": "read-only transaction"}
    assert status["broker"] == {"state": "degraded", "error": "connection refused"}


def test_the_status_without_a_database_contains_what_is_known_without_it(unreachable: Store, tmp_path: Path) -> None:
    installation = Installation(unreachable, unwritable(tmp_path))
    installation.callback_problems = ["3 callbacks to source default refused"]

    status = installation.statusz()

    assert status["version"] == __version__
    assert status["database"]["state"] == "down"
    assert (status["spool"]["state"], status["spool"]["count"]) == ("down", None)
    assert status["problems"] == [status["database"]["error"], "3 callbacks to source default refused"]


def test_the_status_of_a_database_without_tables_names_the_command_to_run(tmp_path: Path) -> None:
    empty = Store.open(f"sqlite:///{tmp_path / 'empty.db'}")

    status = Installation(empty, None).statusz()
    empty.close()

    assert status["database"]["state"] == "down"
    assert status["problems"] == ["the database has no vodsync tables yet; run: vodsync migrate"]
