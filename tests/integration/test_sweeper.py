"""A worker's own sweeps and look-ups: they continue after any failure, and end when the worker stops."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.worker_fakes import AwayStore, RecordingLog, make_runtime
from worker import background
from worker.background import BackgroundLoop
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.heartbeats import Heartbeats
from worker.sync.drain import DrainResult
from worker.sync.source_context import SourceContext, SyncSettings
from worker.vod.testing import FakeVod

WITH_VIDEO_INFO = SyncSettings(video_info=True)


class Harness:
    """A worker's sweeper over `store`, for the sources "a" and "b"; only "b" uses GetVideoInfo."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        contexts = [SourceContext("a", FakeVod()), SourceContext("b", FakeVod(), WITH_VIDEO_INFO)]
        self.runtime = make_runtime(monkeypatch, store, *contexts)
        from worker.queue.services import sweeper

        self.module: Any = sweeper
        self.log = RecordingLog()
        monkeypatch.setattr(background, "log", self.log)
        self.service = sweeper.Sweeper(SimpleNamespace())

    def loop(self, name: str) -> BackgroundLoop:
        return next(loop for loop in self.service.loops(concurrency=3) if loop.name == name)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch, AwayStore())


class Work:
    """Replaces a task: has one outcome after another, then nothing to do; records the sources."""

    def __init__(self, *outcomes: DrainResult | Exception) -> None:
        self.outcomes = list(outcomes)
        self.sources: list[str] = []
        #: Set when the outcomes are used up.
        self.is_over = threading.Event()

    def __call__(self, source: str) -> DrainResult:
        self.sources.append(source)
        if not self.outcomes:
            self.is_over.set()
            return DrainResult()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


MORE = DrainResult(batches=10, more_waiting=True)


# Sweeps


def test_a_sweep_continues_while_more_is_waiting_and_then_pauses(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(MORE, MORE, DrainResult(batches=3))
    monkeypatch.setattr(harness.module.tasks, "work", work)

    pauses = [harness.module._sweep("a"), harness.module._sweep("a")]

    # Three times in the first sweep, once in the second.
    assert work.sources == ["a"] * 4
    assert [2 <= pause <= 3 for pause in pauses] == [True, True]


def test_a_stop_ends_a_sweep_that_has_more_to_do(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(MORE, MORE, MORE)

    def work_and_stop(source: str) -> DrainResult:
        harness.runtime.stopping.set()
        return work(source)

    monkeypatch.setattr(harness.module.tasks, "work", work_and_stop)

    harness.module._sweep("a")

    assert work.sources == ["a"]


def test_a_sweep_that_fails_does_not_end_the_sweeps(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(ZeroDivisionError(), StoreUnavailableError("away"), MORE)
    monkeypatch.setattr(harness.module.tasks, "work", work)
    monkeypatch.setattr(harness.module, "INTERVAL", 0.01)
    monkeypatch.setattr(harness.module, "JITTER", 0.01)
    loop = harness.loop("sweeper a")

    loop.start()
    work.is_over.wait(60)
    loop.stop()
    loop.join(60)

    assert len(work.sources) >= 4
    assert harness.log.entries == [("sweep failed", {"thread": "sweeper a", "exc_info": True})] * 2


# Look-ups


class ImmediateEvent(threading.Event):
    """An event whose waits take no time. `waits`: whether it was set at each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[bool] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(self.is_set())
        return self.is_set()


def test_look_ups_are_made_after_each_signal_and_each_interval_whatever_fails(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = ImmediateEvent()
    context = SourceContext("b", FakeVod(), WITH_VIDEO_INFO, video_info_due=signal)
    harness.runtime.source_contexts["b"] = context
    loop = harness.loop("look-ups b")
    calls = []

    def look_up(source: str) -> None:
        calls.append((source, signal.is_set()))
        if len(calls) == 3:
            loop.stop()
        # A batch ends meanwhile.
        signal.set()
        raise ZeroDivisionError

    monkeypatch.setattr(harness.module.tasks, "look_up", look_up)

    loop.start()
    loop.join(60)

    # The signal is cleared before the look-up, so that one that is set during it leads to the next look-up.
    assert calls == [("b", False)] * 3
    assert signal.waits == [False, True, True, True]
    assert harness.log.phrases == ["look-ups failed"]


# Threads


def test_a_source_that_blocks_its_thread_delays_no_other_source(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    swept, looked_up, released = {"a": threading.Event(), "b": threading.Event()}, threading.Event(), threading.Event()
    monkeypatch.setattr(harness.module, "INTERVAL", 0)
    monkeypatch.setattr(harness.module, "JITTER", 0.01)

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

    harness.service.start(SimpleNamespace(concurrency=3))
    served = [swept["a"].wait(60), swept["b"].wait(60), looked_up.wait(60)]
    released.set()
    harness.service.stop(SimpleNamespace())

    assert served == [True, True, True]
    # One of the three threads of the pool stays free for other sources.
    assert [harness.runtime.concurrency_limits["a"].try_enter() for _ in range(3)] == [True, True, False]


def test_a_stop_wakes_every_thread_that_waits(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    harness = Harness(monkeypatch, store)
    from worker.queue.services import heartbeat

    monkeypatch.setattr(harness.module, "INTERVAL", 3600)
    monkeypatch.setattr(heartbeat, "INTERVAL", 3600)
    services = [harness.service, heartbeat.HeartbeatSender(SimpleNamespace())]
    for service in services:
        service.start(SimpleNamespace(concurrency=3))
    loops = [loop for service in services for loop in service._loops]

    for service in services:
        service.stop(SimpleNamespace())

    assert sorted(loop.name for loop in loops) == ["heartbeat", "look-ups b", "sweeper a", "sweeper b"]
    assert [loop.name for loop in loops if loop.is_alive] == []
    assert harness.runtime.stopping.is_set()
    with store.reading() as connection:
        assert Heartbeats(connection).all() == []
