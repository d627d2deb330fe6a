"""What /livez, /readyz and /statusz answer, with a database file, a spool and faults that the test sets."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Engine
from starlette.requests import Request
from starlette.responses import Response

from tests.builders import NOON, SECOND, body, notify, request
from worker import __version__
from worker.core import events
from worker.core.errors import StoreUnavailableError
from worker.store import Store, schema, tables
from worker.store.spool import Spool
from worker.sync.receive import delivery
from worker.web.health import Health

#: A port that no server listens at: connections are refused at once.
CLOSED = "postgresql://vodsync@127.0.0.1:1/vodsync"

#: Seconds after which a frozen database is set free, so that its threads end.
DEADLINE = 5

REQUEST = Request({"type": "http"})


class Installation:
    """A receiver's health with everything well; the test changes what is not."""

    def __init__(self, store: Store, spool: Spool | None) -> None:
        self.store = store
        self.spool = spool
        self.sources = ["default"]
        self.database_fault: str | None = None
        self.broker_fault: str | None = None
        self.refusals: list[str] = []
        self.feed = False

    def livez(self) -> Response:
        return self._ask("livez")[0]

    def readyz(self) -> tuple[int, dict[str, Any]]:
        (response,) = self._ask("readyz")
        return response.status_code, msgspec.json.decode(response.body)

    def readyz_repeatedly(self, times: int) -> list[tuple[int, dict[str, Any]]]:
        """Answers of one process, one after the other."""
        responses = self._ask(*["readyz"] * times)
        return [(response.status_code, msgspec.json.decode(response.body)) for response in responses]

    def statusz(self) -> dict[str, Any]:
        (response,) = self._ask("statusz")
        assert response.status_code == 200
        seen: dict[str, Any] = msgspec.json.decode(response.body)
        return seen

    def _ask(self, *paths: str) -> list[Response]:
        health = Health(
            self.store,
            self.spool,
            sources=self.sources,
            database_error=lambda: self.database_fault,
            broker_error=lambda: self.broker_fault,
            callback_problems=lambda: self.refusals,
            now=lambda: NOON + 10 * SECOND,
            change_feed=self.feed,
        )
        endpoints = {"livez": health.livez, "readyz": health.readyz, "statusz": health.statusz}

        async def ask() -> list[Response]:
            return [await endpoints[path](REQUEST) for path in paths]

        try:
            return asyncio.run(ask())
        finally:
            health.close()


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
    opened = Store.open(CLOSED)
    yield opened
    opened.close()


def unwritable(folder: Path) -> Spool:
    """A spool whose file cannot be opened."""
    (folder / "unwritable.db").mkdir()
    return Spool(folder / "unwritable.db")


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {name: part["state"] for name, part in answer["parts"].items()}


# /livez


def test_a_process_is_alive_whatever_else_is_down(unreachable: Store, tmp_path: Path) -> None:
    response = Installation(unreachable, unwritable(tmp_path)).livez()

    assert (response.status_code, response.body) == (200, b"ok")


# /readyz


def test_an_installation_without_faults_is_ready(installation: Installation) -> None:
    status, answer = installation.readyz()

    assert status == 200
    assert answer["ready"] is True
    assert states(answer) == {"database": "ok", "schema": "ok", "spool": "ok", "broker": "ok"}
    assert answer.keys() == {"ready", "parts"}


def test_a_local_file_needs_no_spool(store: Store) -> None:
    status, answer = Installation(store, None).readyz()

    assert status == 200
    assert answer["parts"]["spool"] == {"state": "unused", "count": 0, "since": None}


def test_a_broker_that_is_away_degrades_and_is_named(installation: Installation) -> None:
    installation.broker_fault = "connection refused"

    status, answer = installation.readyz()

    assert (status, answer["ready"]) == (200, True)
    assert answer["parts"]["broker"] == {"state": "degraded", "error": "connection refused"}
    assert states(answer) == {"database": "ok", "schema": "ok", "spool": "ok", "broker": "degraded"}


def test_a_database_that_takes_no_notifications_degrades_while_the_spool_takes_them(installation: Installation) -> None:
    installation.database_fault = "read-only transaction"

    status, answer = installation.readyz()

    assert (status, answer["ready"]) == (200, True)
    assert answer["parts"]["database"] == {"state": "degraded", "error": "read-only transaction"}
    assert states(answer) == {"database": "degraded", "schema": "ok", "spool": "ok", "broker": "ok"}


def test_a_database_that_takes_no_notifications_is_down_if_the_spool_takes_none_either(store: Store, tmp_path: Path) -> None:
    installation = Installation(store, unwritable(tmp_path))
    installation.database_fault = "read-only transaction"

    status, answer = installation.readyz()

    assert (status, answer["ready"], answer["reason"]) == (503, False, "database")
    assert answer["error"] == "database: read-only transaction"
    assert states(answer) == {"database": "down", "schema": "ok", "spool": "down", "broker": "ok"}


def test_a_server_that_is_down_degrades_while_the_spool_takes_notifications(unreachable: Store, spool: Spool) -> None:
    status, answer = Installation(unreachable, spool).readyz()

    assert (status, answer["ready"]) == (200, True)
    assert states(answer) == {"database": "degraded", "schema": "degraded", "spool": "ok", "broker": "ok"}
    assert "the database did not accept the transaction" in answer["parts"]["database"]["error"]


@pytest.mark.parametrize("with_spool", [False, True], ids=["no spool", "unwritable spool"])
def test_a_server_that_is_down_is_down_without_a_spool(unreachable: Store, tmp_path: Path, with_spool: bool) -> None:
    status, answer = Installation(unreachable, unwritable(tmp_path) if with_spool else None).readyz()

    assert (status, answer["ready"], answer["reason"]) == (503, False, "database")
    assert states(answer)["database"] == "down"
    assert answer["error"].startswith("database: the database did not accept the transaction")


def test_a_spool_that_cannot_be_written_degrades_while_the_database_takes_notifications(store: Store, tmp_path: Path) -> None:
    status, answer = Installation(store, unwritable(tmp_path)).readyz()

    assert (status, answer["ready"]) == (200, True)
    assert states(answer) == {"database": "ok", "schema": "ok", "spool": "degraded", "broker": "ok"}
    assert "unwritable.db" in answer["parts"]["spool"]["error"]


def test_a_full_disk_degrades_while_the_database_takes_notifications(
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
def test_a_stale_schema_is_down_whatever_the_spool_takes(spool: Spool, tmp_path: Path, revision: str | None) -> None:
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
    """A database that takes connections and answers nothing until it is set free."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.free = threading.Event()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        self.free.wait(DEADLINE)
        raise StoreUnavailableError("set free")
        yield


@pytest.fixture
def frozen(migrated_file: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrozenStore]:
    """A frozen database. The seconds that health waits for an answer are shortened to a tenth of them."""
    timeout = asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout", lambda seconds: timeout(seconds / 10))
    opened = FrozenStore.open(migrated_file)
    assert isinstance(opened, FrozenStore)
    yield opened
    opened.free.set()
    opened.close()


def test_a_frozen_database_is_answered_for_in_time_however_often_it_is_asked_about(frozen: FrozenStore, spool: Spool) -> None:
    spool.check()

    answers = Installation(frozen, spool).readyz_repeatedly(3)

    assert [status for status, _ in answers] == [200] * 3
    assert [states(answer)["database"] for _, answer in answers] == ["degraded"] * 3
    assert [states(answer)["spool"] for _, answer in answers] == ["ok"] * 3
    assert {answer["parts"]["database"]["error"] for _, answer in answers} == {"no answer within 3 s"}


# /statusz


def test_the_status_has_the_version_the_schema_and_the_numbers_of_the_database(installation: Installation, store: Store) -> None:
    notify(store, "a", "b")

    seen = installation.statusz()

    assert seen["version"] == __version__
    assert seen["schema"] == {"revision": schema.REVISION, "expected": schema.REVISION}
    assert (seen["database"], seen["broker"]) == ({"state": "ok"}, {"state": "ok"})
    assert seen["spool"] == {"state": "ok", "count": 0, "since": None}
    assert seen["backlog"] == {"due": 2, "waiting": 0}
    assert (seen["oldest_due_age_seconds"], seen["notifications"], seen["dead_letters"]) == (10, 2, 0)
    assert seen["problems"] == []
    assert "changes" not in seen


def test_the_status_has_the_change_feed_if_there_is_one(installation: Installation) -> None:
    installation.feed = True

    assert installation.statusz()["changes"] == {"count": 0, "since": None}


def test_the_problems_are_those_of_the_spool_the_callbacks_and_the_database(
    installation: Installation, store: Store, spool: Spool
) -> None:
    spool.put([delivery("default", events.parse(body("a")), received_at=NOON)])
    request(store, "a", source="another")
    installation.refusals = ["3 callbacks to source default refused"]

    in_spool, refused, unserved = installation.statusz()["problems"]

    assert "1 notification waits in the spool" in in_spool
    assert refused == "3 callbacks to source default refused"
    assert "1 sync request belongs to source another" in unserved


def test_a_source_that_is_configured_is_no_problem(installation: Installation, store: Store) -> None:
    request(store, "a", source="another")
    installation.sources = ["default", "another"]

    assert installation.statusz()["problems"] == []


def test_the_status_names_faults_of_the_database_and_of_the_broker(installation: Installation) -> None:
    installation.database_fault = "read-only transaction"
    installation.broker_fault = "connection refused"

    seen = installation.statusz()

    assert seen["database"] == {"state": "degraded", "error": "read-only transaction"}
    assert seen["broker"] == {"state": "degraded", "error": "connection refused"}


def test_the_status_of_a_server_that_is_down_has_what_is_known_without_it(unreachable: Store, tmp_path: Path) -> None:
    installation = Installation(unreachable, unwritable(tmp_path))
    installation.refusals = ["3 callbacks to source default refused"]

    seen = installation.statusz()

    assert seen["version"] == __version__
    assert seen["database"]["state"] == "down"
    assert (seen["spool"]["state"], seen["spool"]["count"]) == ("down", None)
    assert seen["problems"] == [seen["database"]["error"], "3 callbacks to source default refused"]


def test_the_status_of_a_database_without_tables_names_the_command_to_run(tmp_path: Path) -> None:
    empty = Store.open(f"sqlite:///{tmp_path / 'empty.db'}")

    seen = Installation(empty, None).statusz()
    empty.close()

    assert seen["database"]["state"] == "down"
    assert seen["problems"] == ["the database has no vodsync tables yet; run: vodsync migrate"]
