"""A worker's heartbeats, and the back-offs that its first heartbeat resets."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from tests.worker_fakes import AwayStore, RecordingLog, make_runtime
from worker.core.wait import Wait
from worker.store import Store
from worker.store.dialects import clock
from worker.store.heartbeats import Heartbeat, Heartbeats
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, CREDENTIALS, RateLimiter, Slot
from worker.sync.source_context import SourceContext
from worker.vod.testing import FakeVod

MINUTE = timedelta(minutes=1)


class Harness:
    """The heartbeats of a worker over `store`, for the sources "a" and "b"."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        self.runtime = make_runtime(monkeypatch, store, *(SourceContext(source, FakeVod()) for source in "ab"))
        from worker.queue.services import heartbeat

        self.log = RecordingLog()
        monkeypatch.setattr(heartbeat, "log", self.log)
        self.service: Any = heartbeat.HeartbeatSender(SimpleNamespace())

    def deregister(self) -> None:
        """Run the thread of a worker that is stopped before its first heartbeat."""
        (loop,) = self.service.loops(concurrency=1)
        loop.stop()
        loop.start()
        loop.join(60)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch, AwayStore())


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


def heartbeats(store: Store) -> list[Heartbeat]:
    with store.reading() as connection:
        return Heartbeats(connection).all()


def test_a_worker_is_listed_from_its_start_to_its_stop(stored: Harness, store: Store) -> None:
    stored.runtime.claimed_at = store.now()
    listed: list[Heartbeat] = []
    pauses = []

    for _ in range(3):
        pauses.append(stored.service.step())
        listed += heartbeats(store)
    stored.deregister()

    assert [2 <= pause <= 3 for pause in pauses] == [True] * 3
    assert [heartbeat.name for heartbeat in listed] == [stored.runtime.name] * 3
    seen_at = [heartbeat.seen_at for heartbeat in listed]
    assert seen_at == sorted(set(seen_at))
    assert {heartbeat.claimed_at for heartbeat in listed} == {stored.runtime.claimed_at}
    assert {heartbeat.started_at for heartbeat in listed} == {listed[0].seen_at}
    assert heartbeats(store) == []


@pytest.mark.parametrize("ahead", [120, -120])
def test_a_worker_whose_clock_is_off_is_seen_at_the_time_of_the_database_and_stores_the_difference(
    stored: Harness, store: Store, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    machine = SimpleNamespace(time=lambda: time.time() + ahead, monotonic=time.monotonic)
    monkeypatch.setattr("worker.store.database_clock.time", machine)

    stored.service.step()

    (heartbeat,) = heartbeats(store)
    with store.reading() as connection:
        database_time = connection.execute(select(clock(connection.dialect.name))).scalar_one() / 1_000_000
    assert heartbeat.clock_ahead_seconds == pytest.approx(ahead, abs=30)
    assert heartbeat.seen_at.timestamp() == pytest.approx(database_time, abs=30)
    assert heartbeat.started_at == heartbeat.seen_at


def test_a_worker_continues_while_the_database_is_away(harness: Harness) -> None:
    for _ in range(3):
        harness.service.step()
    harness.deregister()

    assert harness.log.phrases == [
        "heartbeat postponed",
        "back-offs were not reset; calls to VOD wait until they end",
        "failed to deregister worker",
    ]


def take(store: Store, source: str, operation: str = BATCH_GET_MEDIA_INFOS) -> Slot | Wait:
    return store.transact(lambda connection: RateLimiter(connection).take(source, operation, per_second=20))


def test_a_worker_that_starts_retries_at_once_what_was_backed_off(stored: Harness, store: Store) -> None:
    store.transact(lambda connection: RateLimiter(connection).back_off("a", BATCH_GET_MEDIA_INFOS, 5 * MINUTE, fault="wrong keys"))
    before = take(store, "a")

    stored.service.step()

    after = take(store, "a")
    assert isinstance(before, Wait)
    assert isinstance(after, Slot)
    assert after.probing


def test_a_worker_without_keys_for_a_source_records_the_reason_and_one_with_keys_deletes_it(stored: Harness, store: Store) -> None:
    take(store, "a", CREDENTIALS)
    store.transact(lambda connection: RateLimiter(connection).record_error("a", CREDENTIALS, "no keys yesterday"))
    vars(stored.runtime)["unserved"] = {"c": "source c: no credentials for VOD"}

    stored.service.step()

    with store.reading() as connection:
        faults = [(back_off.source, back_off.operation, back_off.fault) for back_off in RateLimiter(connection).back_offs()]
    assert faults == [("c", CREDENTIALS, "no credentials for VOD; then start the workers again")]
