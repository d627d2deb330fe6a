"""Servers that refuse or say nothing, at the start and in mid-flight: accepting goes on, and everything arrives without help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from tests import monotonic_clock
from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import eventually
from tests.system.proxy import Proxy, proxied

SERVERS = ["postgresql-rabbitmq", "mariadb-redis"]

#: Seconds. VOD waits five for an answer.
PATIENCE = 2.0


class Fragile:
    """An installation whose receiver and worker reach database and broker through proxies; the test itself does not."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.database, self._database_url = proxied(installation.settings["VODSYNC_DATABASE_URL"])
        self.broker, self._broker_url = proxied(installation.settings["VODSYNC_BROKER_URL"])
        installation.start_emulator("--media", "200")
        self.media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
        self._told = 0

    def start(self, name: str, *arguments: str, **settings: str) -> Any:
        urls = {"VODSYNC_DATABASE_URL": self._database_url, "VODSYNC_BROKER_URL": self._broker_url}
        return self.installation.start(name, *arguments, **urls, **settings)

    def notify(self, count: int = 1) -> list[tuple[str, httpx.Response, float]]:
        """Tell of `count` more media; gives id, answer and seconds of each."""
        told = []
        for media_id in self.media_ids[self._told : self._told + count]:
            began = monotonic_clock.seconds()
            answer = self.installation.notify(analysed(media_id))
            told.append((media_id, answer, monotonic_clock.seconds() - began))
        self._told += count
        return told

    def wait_for(self, *told: list[tuple[str, httpx.Response, float]], within: float = 40) -> None:
        """Until each medium that was told of has its row."""
        wanted = {media_id for group in told for media_id, _, _ in group}
        eventually(
            lambda: wanted <= self._arrived(),
            within=within,
            pause=0.2,
            missing=lambda: f"{sorted(wanted - self._arrived())[:5]} of {len(wanted)}; logs:\n{self.installation.logs()[-4000:]}",
        )

    def _arrived(self) -> set[str]:
        return {row["media_id"] for row in self.installation.database.rows("SELECT media_id FROM vod_media WHERE state = 'ok'")}

    def is_alive(self) -> bool:
        try:
            return self.installation.http.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def ready(self) -> httpx.Response:
        return self.installation.http.get("/readyz")

    def restore(self) -> None:
        for proxy in (self.database, self.broker):
            proxy.restore()


@pytest.fixture(params=SERVERS)
def fragile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fragile]:
    with installed(PAIRS[request.param], tmp_path, VODSYNC_LEASE="5") as ready:
        made = Fragile(ready)
        yield made
        made.restore()


def assert_accepted(told: list[tuple[str, httpx.Response, float]]) -> None:
    assert [answer.status_code for _, answer, _ in told] == [200] * len(told), [answer.text for _, answer, _ in told]
    assert max(seconds for _, _, seconds in told) < PATIENCE


def break_(proxy: Proxy, kind: str) -> None:
    {"refuse": proxy.cut, "freeze": proxy.freeze}[kind]()


# The database


@pytest.mark.parametrize("kind", ["refuse", "freeze"])
def test_notifications_are_accepted_while_the_database_is_away_and_arrive_afterwards(fragile: Fragile, kind: str) -> None:
    fragile.start("receiver", "serve")
    fragile.start("worker", "work", "--beat")
    fragile.installation.wait_until_ready()
    before = fragile.notify()
    fragile.wait_for(before)

    break_(fragile.database, kind)
    during = fragile.notify(10)
    ready = fragile.ready()
    spooled = fragile.installation.http.get("/statusz").json()["spool"]
    fragile.database.restore()
    after = fragile.notify()

    assert_accepted(during)
    assert_accepted(after)
    assert (ready.status_code, ready.json()["parts"]["database"]["state"]) == (200, "degraded")
    assert spooled["count"] == 10
    assert spooled["since"]
    fragile.wait_for(before, during, after)
    eventually(lambda: fragile.installation.http.get("/statusz").json()["spool"]["count"] == 0, within=20, missing="an empty spool")
    parts = eventually(lambda: fragile.ready().json(), within=5, missing="readyz")["parts"]
    assert {name: part["state"] for name, part in parts.items()} == {
        "database": "ok",
        "schema": "ok",
        "spool": "ok",
        "broker": "ok",
    }


@pytest.mark.parametrize("kind", ["refuse", "freeze"])
def test_everybody_starts_without_a_database_and_goes_to_work_once_it_is_there(fragile: Fragile, kind: str) -> None:
    break_(fragile.database, kind)
    fragile.start("receiver", "serve")
    worker = fragile.start("worker", "work", "--beat")
    eventually(fragile.is_alive, within=20, missing="a receiver")

    told = fragile.notify(5)
    waiting = worker.running
    fragile.database.restore()

    assert_accepted(told)
    assert waiting
    fragile.wait_for(told)


def test_a_database_that_can_only_be_read_is_degraded_and_the_spool_is_named(fragile: Fragile) -> None:
    fragile.start("receiver", "serve")
    fragile.installation.wait_until_ready()

    with read_only(fragile.installation):
        told = fragile.notify(3)
        ready = fragile.ready().json()
        seen = fragile.installation.http.get("/statusz").json()
        status = fragile.installation.run("status")
    fragile.start("worker", "work", "--beat")

    assert_accepted(told)
    assert (ready["ready"], ready["parts"]["database"]["state"]) == (True, "degraded")
    assert seen["database"]["state"] == "degraded"
    assert "3 notifications wait in the spool" in seen["problems"][0]
    assert "3 notifications wait in the spool" in status.stderr
    fragile.wait_for(told)
    healed = eventually(lambda: fragile.ready().json()["parts"]["database"], within=5, missing="readyz")
    assert healed == {"state": "ok"}
    assert fragile.installation.http.get("/statusz").json()["problems"] == []


@contextmanager
def read_only(installation: Installation) -> Iterator[None]:
    """Nobody can write to the tables that take notifications; reading them works."""
    lock, unlock = "LOCK TABLES vod_notification READ, vod_sync_request READ", "UNLOCK TABLES"
    if installation.database.backend == "postgresql":
        lock, unlock = "BEGIN; LOCK TABLE vod_notification, vod_sync_request IN SHARE MODE", "ROLLBACK"
    with installation.database.connection() as connection:
        connection.exec_driver_sql(lock)
        yield
        connection.exec_driver_sql(unlock)


def test_a_receiver_that_is_killed_with_a_full_spool_loses_nothing(fragile: Fragile) -> None:
    receiver = fragile.start("receiver", "serve")
    fragile.start("worker", "work", "--beat")
    fragile.installation.wait_until_ready()
    fragile.database.cut()
    told = fragile.notify(20)

    receiver.kill()
    fragile.database.restore()
    fragile.start("receiver-again", "serve")

    assert_accepted(told)
    fragile.wait_for(told)


def test_neither_database_nor_spool_is_a_503_that_says_so(fragile: Fragile, tmp_path: Path) -> None:
    (tmp_path / "spool.db").mkdir()
    fragile.start("receiver", "serve", VODSYNC_SPOOL=str(tmp_path / "spool.db"))
    fragile.installation.wait_until_ready()
    fragile.database.cut()

    [(_, answer, seconds)] = fragile.notify()
    ready = fragile.ready()
    fragile.database.restore()
    eventually(lambda: fragile.notify()[0][1].status_code == 200, within=10, missing="a 200 once the database is back")

    assert (answer.status_code, answer.json()["reason"]) == (503, "store")
    assert int(answer.headers["retry-after"]) > 0
    assert seconds < PATIENCE
    assert (ready.status_code, ready.json()["reason"]) == (503, "database")
    assert fragile.installation.http.get("/livez").status_code == 200


# The broker


@pytest.mark.parametrize("kind", ["refuse", "freeze"])
def test_a_broker_that_is_away_delays_and_loses_nothing(fragile: Fragile, kind: str) -> None:
    fragile.start("receiver", "serve")
    fragile.start("worker", "work", "--beat")
    fragile.installation.wait_until_ready()
    before = fragile.notify()
    fragile.wait_for(before)

    break_(fragile.broker, kind)
    during = fragile.notify(5)
    fragile.wait_for(before, during)
    degraded = eventually(lambda: _broker_is(fragile, "degraded"), within=30, missing="a degraded broker")
    fragile.broker.restore()
    after = fragile.notify()
    eventually(lambda: _broker_is(fragile, "ok"), within=30, missing="a broker that is ok again")

    assert_accepted(during)
    assert (degraded.status_code, degraded.json()["ready"]) == (200, True)
    fragile.wait_for(after)


def _broker_is(fragile: Fragile, state: str) -> httpx.Response | None:
    answer = fragile.ready()
    return answer if answer.json()["parts"]["broker"]["state"] == state else None


# The API


def test_an_api_that_fails_delays_and_loses_nothing(fragile: Fragile) -> None:
    fragile.start("receiver", "serve")
    fragile.start("worker", "work", "--beat")
    fragile.installation.wait_until_ready()

    for fault in ("reset", "halfway", "truncated", "garbage", "html", "http_500", "service_unavailable", "throttle"):
        fragile.installation.emulator.put("/faults", json={fault: {"next": 1}}).raise_for_status()
        told = fragile.notify(3)

        assert_accepted(told)
        fragile.wait_for(told)
    unasked = "SELECT count(*) FROM vod_sync_request WHERE waits = 0"
    eventually(lambda: not fragile.installation.database.value(unasked), within=20, missing="an end to every request")


def test_the_url_of_the_tests_has_a_password(fragile: Fragile) -> None:
    """Otherwise looking for it in the logs would prove nothing."""
    assert sa.make_url(fragile.installation.settings["VODSYNC_DATABASE_URL"]).password
