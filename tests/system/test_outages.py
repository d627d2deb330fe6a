"""Database, broker or API refuse connections or freeze: notifications are still accepted, and everything is stored later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests import monotonic_clock
from tests.system.fault_harness import OUTAGE_KINDS, RESPONSE_LIMIT, SERVERS, start_outage
from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import Process, eventually
from tests.system.proxy import proxied

Delivery = tuple[str, httpx.Response, float]


class ProxiedInstallation:
    """An installation whose roles connect to database and broker through proxies. The test itself connects directly."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.database, self._database_url = proxied(installation.settings["VODSYNC_DATABASE_URL"])
        self.broker, self._broker_url = proxied(installation.settings["VODSYNC_BROKER_URL"])
        installation.start_emulator("--media", "200")
        self.media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
        self._sent = 0

    def start(self, name: str, *arguments: str, **settings: str) -> Process:
        urls = {"VODSYNC_DATABASE_URL": self._database_url, "VODSYNC_BROKER_URL": self._broker_url}
        return self.installation.start(name, *arguments, **urls, **settings)

    def notify(self, count: int = 1) -> list[Delivery]:
        """Send notifications of `count` more assets. Returns id, response and seconds of each."""
        deliveries = []
        for media_id in self.media_ids[self._sent : self._sent + count]:
            started = monotonic_clock.seconds()
            response = self.installation.notify(analysed(media_id))
            deliveries.append((media_id, response, monotonic_clock.seconds() - started))
        self._sent += count
        return deliveries

    def wait_for(self, *groups: list[Delivery], within: float = 40) -> None:
        """Wait until the asset of each delivery is stored."""
        wanted = {media_id for group in groups for media_id, _, _ in group}
        eventually(
            lambda: wanted <= self._stored(),
            within=within,
            pause=0.2,
            missing=lambda: f"{sorted(wanted - self._stored())[:5]} of {len(wanted)}; logs:\n{self.installation.logs()[-4000:]}",
        )

    def _stored(self) -> set[str]:
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
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProxiedInstallation]:
    with installed(PAIRS[request.param], tmp_path, VODSYNC_LEASE="5") as installation:
        system = ProxiedInstallation(installation)
        yield system
        system.restore()


def assert_accepted(deliveries: list[Delivery]) -> None:
    statuses = [response.status_code for _, response, _ in deliveries]
    assert statuses == [200] * len(deliveries), [response.text for _, response, _ in deliveries]
    assert max(seconds for _, _, seconds in deliveries) < RESPONSE_LIMIT


# The database


@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_notifications_received_during_database_outage_are_stored_afterwards(system: ProxiedInstallation, kind: str) -> None:
    system.start("receiver", "serve")
    system.start("worker", "work", "--beat")
    system.installation.wait_until_ready()
    before = system.notify()
    system.wait_for(before)

    start_outage(system.database, kind)
    during = system.notify(10)
    ready = system.ready()
    spooled = system.installation.http.get("/statusz").json()["spool"]
    system.database.restore()
    after = system.notify()

    assert_accepted(during)
    assert_accepted(after)
    assert (ready.status_code, ready.json()["parts"]["database"]["state"]) == (200, "degraded")
    assert spooled["count"] == 10
    assert spooled["since"]
    system.wait_for(before, during, after)
    eventually(lambda: system.installation.http.get("/statusz").json()["spool"]["count"] == 0, within=20, missing="an empty spool")
    parts = eventually(lambda: system.ready().json(), within=5, missing="readyz")["parts"]
    assert {name: part["state"] for name, part in parts.items()} == {
        "database": "ok",
        "schema": "ok",
        "spool": "ok",
        "broker": "ok",
    }


@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_roles_start_without_database_and_work_once_it_returns(system: ProxiedInstallation, kind: str) -> None:
    start_outage(system.database, kind)
    system.start("receiver", "serve")
    worker = system.start("worker", "work", "--beat")
    eventually(system.is_alive, within=20, missing="a receiver")

    deliveries = system.notify(5)
    worker_survived = worker.running
    system.database.restore()

    assert_accepted(deliveries)
    assert worker_survived
    system.wait_for(deliveries)


def test_read_only_database_is_reported_as_degraded_with_spool_size(system: ProxiedInstallation) -> None:
    system.start("receiver", "serve")
    system.installation.wait_until_ready()

    with read_only(system.installation):
        deliveries = system.notify(3)
        ready = system.ready().json()
        statusz = system.installation.http.get("/statusz").json()
        status = system.installation.run("status")
    system.start("worker", "work", "--beat")

    assert_accepted(deliveries)
    assert (ready["ready"], ready["parts"]["database"]["state"]) == (True, "degraded")
    assert statusz["database"]["state"] == "degraded"
    assert "3 notifications wait in the spool" in statusz["problems"][0]
    assert "3 notifications wait in the spool" in status.stderr
    system.wait_for(deliveries)
    database = eventually(lambda: system.ready().json()["parts"]["database"], within=5, missing="readyz")
    assert database == {"state": "ok"}
    assert system.installation.http.get("/statusz").json()["problems"] == []


@contextmanager
def read_only(installation: Installation) -> Iterator[None]:
    """Allow reading but not writing the tables for notifications."""
    lock, unlock = "LOCK TABLES vod_notification READ, vod_sync_request READ", "UNLOCK TABLES"
    if installation.database.backend == "postgresql":
        lock, unlock = "BEGIN; LOCK TABLE vod_notification, vod_sync_request IN SHARE MODE", "ROLLBACK"
    with installation.database.connection() as connection:
        connection.exec_driver_sql(lock)
        yield
        connection.exec_driver_sql(unlock)


def test_receiver_killed_with_spooled_notifications_loses_none(system: ProxiedInstallation) -> None:
    receiver = system.start("receiver", "serve")
    system.start("worker", "work", "--beat")
    system.installation.wait_until_ready()
    system.database.cut()
    deliveries = system.notify(20)

    receiver.kill()
    system.database.restore()
    system.start("receiver-again", "serve")

    assert_accepted(deliveries)
    system.wait_for(deliveries)


def test_without_database_and_spool_receiver_answers_503_with_reason(system: ProxiedInstallation, tmp_path: Path) -> None:
    spool = tmp_path / "spool.db"
    system.start("receiver", "serve", VODSYNC_SPOOL=str(spool))
    # /readyz would create the file. Before the start, the receiver would refuse a folder in its place.
    eventually(system.installation.is_alive, within=20, missing="a receiver that serves requests")
    spool.mkdir()
    system.database.cut()

    [(_, response, seconds)] = system.notify()
    ready = system.ready()
    system.database.restore()
    eventually(lambda: system.notify()[0][1].status_code == 200, within=10, missing="a 200 once the database is back")

    assert (response.status_code, response.json()["reason"]) == (503, "store")
    assert int(response.headers["retry-after"]) > 0
    assert seconds < RESPONSE_LIMIT
    assert (ready.status_code, ready.json()["reason"]) == (503, "database")
    assert system.installation.http.get("/livez").status_code == 200


# The broker


@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_broker_outage_delays_and_loses_nothing(system: ProxiedInstallation, kind: str) -> None:
    system.start("receiver", "serve")
    system.start("worker", "work", "--beat")
    system.installation.wait_until_ready()
    before = system.notify()
    system.wait_for(before)

    start_outage(system.broker, kind)
    during = system.notify(5)
    system.wait_for(before, during)
    degraded = wait_for_broker_state(system, "degraded")
    system.broker.restore()
    after = system.notify()
    wait_for_broker_state(system, "ok")

    assert_accepted(during)
    assert (degraded.status_code, degraded.json()["ready"]) == (200, True)
    system.wait_for(after)


def wait_for_broker_state(system: ProxiedInstallation, state: str) -> httpx.Response:
    """Return the first response of /readyz with this state of the broker."""

    def response_with_state() -> httpx.Response | None:
        response = system.ready()
        return response if response.json()["parts"]["broker"]["state"] == state else None

    response = eventually(response_with_state, within=30, missing=f"the broker state {state}")
    assert response is not None
    return response


# The API


def test_api_failures_delay_and_lose_nothing(system: ProxiedInstallation) -> None:
    system.start("receiver", "serve")
    system.start("worker", "work", "--beat")
    system.installation.wait_until_ready()

    for fault in ("reset", "halfway", "truncated", "garbage", "html", "http_500", "service_unavailable", "throttle"):
        system.installation.emulator.put("/faults", json={fault: {"next": 1}}).raise_for_status()
        deliveries = system.notify(3)

        assert_accepted(deliveries)
        system.wait_for(deliveries)
    count_due = "SELECT count(*) FROM vod_sync_request WHERE waits = 0"
    eventually(lambda: not system.installation.database.value(count_due), within=20, missing="an end to every request")


def test_database_url_of_these_tests_contains_a_password(system: ProxiedInstallation) -> None:
    """Without one, the search of the logs for passwords could find nothing."""
    assert sa.make_url(system.installation.settings["VODSYNC_DATABASE_URL"]).password
