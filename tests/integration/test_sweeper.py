"""What a worker does by its own clock: heartbeats, sweeps and look-ups, whatever fails meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.worker_fakes import AwayStore, RecordingLog, StopAfter, make_runtime
from worker import runtime
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.heartbeats import Heartbeat, Heartbeats
from worker.store.rate_limit import BATCH, CREDENTIALS, RateLimiter, Slot
from worker.sync.drain import DrainResult, SourceContext
from worker.sync.retry_policy import Policy
from worker.vod.testing import FakeVod

MINUTE = timedelta(minutes=1)


class Harness:
    """A worker's sweeper over `store`, for the sources "a" and "b"; only "b" uses the single-video operation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        source_contexts = [SourceContext("a", FakeVod(), Policy()), SourceContext("b", FakeVod(), Policy(video_info=True))]
        self.runtime = make_runtime(monkeypatch, store, *source_contexts)
        from worker.queue.services import sweeper

        self.module: Any = sweeper
        self.log = RecordingLog()
        monkeypatch.setattr(sweeper, "log", self.log)
        self.sweeper = sweeper.Sweeper(SimpleNamespace())

    def stop_after(self, rounds: int, *, passes: Callable[[float], object] = lambda _: None) -> StopAfter:
        self.sweeper._stopped = StopAfter(rounds, passes=passes)
        return self.sweeper._stopped


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch, AwayStore())


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


class Work:
    """In place of a task: has one outcome after another, then nothing to do; remembers the sources."""

    def __init__(self, *outcomes: DrainResult | Exception) -> None:
        self.outcomes = list(outcomes)
        self.sources: list[str] = []

    def __call__(self, source: str) -> DrainResult:
        self.sources.append(source)
        outcome = self.outcomes.pop(0) if self.outcomes else DrainResult()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


MORE = DrainResult(batches=10, more_waiting=True)


# Sweeps


def test_a_sweep_goes_on_while_there_is_more_and_then_pauses(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(MORE, MORE, DrainResult(batches=3))
    monkeypatch.setattr(harness.module.tasks, "work", work)
    stopped = harness.stop_after(2)

    harness.sweeper._sweep("a")

    # Three times in the first round, once in the second.
    assert work.sources == ["a"] * 4
    assert [2 <= pause <= 3 for pause in stopped.pauses] == [True, True]


def test_a_stop_ends_a_sweep_that_has_more_to_do(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = harness.stop_after(5)
    work = Work(MORE, MORE, MORE)

    def work_and_stop(source: str) -> DrainResult:
        stopped.set()
        return work(source)

    monkeypatch.setattr(harness.module.tasks, "work", work_and_stop)

    harness.sweeper._sweep("a")

    assert work.sources == ["a"]
    assert len(stopped.pauses) == 1


def test_a_sweep_that_fails_does_not_end_the_sweeps(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(ZeroDivisionError(), StoreUnavailableError("away"), MORE)
    monkeypatch.setattr(harness.module.tasks, "work", work)
    harness.stop_after(3)

    harness.sweeper._sweep("a")

    assert len(work.sources) == 4
    assert harness.log.entries == [("sweep failed", {"source": "a"})] * 2


# Look-ups


class Owing(threading.Event):
    """Counts how often it was waited for, without waiting."""

    waits = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        assert timeout is not None
        return self.is_set()


def test_look_ups_are_made_at_each_signal_and_by_the_clock_whatever_fails(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    owing = Owing()
    harness.runtime.source_contexts["b"] = SourceContext("b", FakeVod(), Policy(video_info=True), owing=owing)
    stopped, signalled = threading.Event(), []
    harness.sweeper._stopped = stopped

    def look_up(source: str) -> None:
        signalled.append((source, owing.is_set()))
        if len(signalled) == 3:
            stopped.set()
        # A batch ends meanwhile.
        owing.set()
        raise ZeroDivisionError

    monkeypatch.setattr(harness.module.tasks, "look_up", look_up)

    harness.sweeper._look_up("b")

    # The signal is taken back before the look-up, so that one that comes meanwhile counts.
    assert signalled == [("b", False)] * 3
    assert owing.is_set()
    assert owing.waits == 3
    assert harness.log.entries == [("look-up failed", {"source": "b"})] * 3


# Heartbeats


def heartbeats(store: Store) -> list[Heartbeat]:
    with store.reading() as connection:
        return Heartbeats(connection).all()


def test_a_worker_is_seen_from_its_start_to_its_stop(stored: Harness, store: Store) -> None:
    stored.runtime.claimed_at = runtime.now()
    seen: list[list[Heartbeat]] = []
    stored.stop_after(3, passes=lambda _: seen.append(heartbeats(store)))

    stored.sweeper._live()

    names = [[heartbeat.name for heartbeat in at_once] for at_once in seen]
    seen_at = [at_once[0].seen_at for at_once in seen]
    assert names == [[stored.runtime.name]] * 3
    assert seen_at == sorted(set(seen_at))
    assert {at_once[0].claimed_at for at_once in seen} == {stored.runtime.claimed_at}
    assert {at_once[0].started_at for at_once in seen} == {stored.runtime.started_at}
    assert heartbeats(store) == []


def test_a_worker_lives_on_while_the_database_is_away(harness: Harness) -> None:
    harness.stop_after(2)

    harness.sweeper._live()

    assert harness.log.phrases == [
        "heartbeat postponed",
        "calls stay held back",
        "heartbeat postponed",
        "heartbeat postponed",
        "worker left without a word",
    ]


# Sources that are held back


def take(store: Store, source: str, operation: str = BATCH) -> Slot | timedelta:
    return store.transact(lambda connection: RateLimiter(connection).take(source, operation, per_second=20))


def test_a_worker_that_starts_tries_at_once_what_was_held_back(stored: Harness, store: Store) -> None:
    store.transact(lambda connection: RateLimiter(connection).back_off("a", BATCH, 5 * MINUTE, fault="wrong keys"))
    before = take(store, "a")
    stored.stop_after(0)

    stored.sweeper._live()

    after = take(store, "a")
    assert isinstance(before, timedelta)
    assert isinstance(after, Slot)
    assert after.probing


def test_a_worker_without_keys_for_a_source_records_why_and_one_with_keys_takes_it_back(stored: Harness, store: Store) -> None:
    take(store, "a", CREDENTIALS)
    store.transact(lambda connection: RateLimiter(connection).record_error("a", CREDENTIALS, "no keys yesterday"))
    vars(stored.runtime)["unserved"] = {"c": "source c: no credentials for VOD"}
    stored.stop_after(0)

    stored.sweeper._live()

    with store.reading() as connection:
        held = [(each.source, each.operation, each.fault) for each in RateLimiter(connection).back_offs()]
    assert held == [("c", CREDENTIALS, "no credentials for VOD; then start the workers again")]


# Threads


def test_a_source_that_blocks_its_thread_keeps_no_other_one_waiting(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    swept, looked_up, released = {"a": threading.Event(), "b": threading.Event()}, threading.Event(), threading.Event()
    monkeypatch.setattr(harness.module, "_PAUSE", 0)
    monkeypatch.setattr(harness.module, "_JITTER", 0.01)

    def work(source: str) -> DrainResult:
        swept[source].set()
        if source == "a":
            released.wait(60)
        return DrainResult()

    def look_up(source: str) -> None:
        assert source == "b"
        looked_up.set()

    monkeypatch.setattr(harness.module.tasks, "work", work)
    monkeypatch.setattr(harness.module.tasks, "look_up", look_up)

    harness.sweeper.start(SimpleNamespace(concurrency=3))
    served = [swept["a"].wait(60), swept["b"].wait(60), looked_up.wait(60)]
    released.set()
    harness.sweeper.stop(SimpleNamespace())

    assert served == [True, True, True]
    # Of three threads of the pool, no source gets the last one.
    assert [harness.runtime.concurrency_limits["a"].enter() for _ in range(3)] == [True, True, False]


def test_a_stop_wakes_every_thread_that_waits(stored: Harness, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored.module, "_PAUSE", 3600)
    stored.sweeper.start(SimpleNamespace(concurrency=3))
    threads = list(stored.sweeper._threads)

    stored.sweeper.stop(SimpleNamespace())

    assert sorted(thread.name for thread in threads) == ["heart", "look-ups b", "sweeper a", "sweeper b"]
    assert [thread.name for thread in threads if thread.is_alive()] == []
    assert stored.runtime.stopping.is_set()
    assert heartbeats(store) == []
