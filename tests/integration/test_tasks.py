"""What a wake-up, the periodic sweep and a source's own thread do, and what they leave alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import element, request
from tests.worker_fakes import AwayStore, FakeDoorbell, RecordingLog, make_runtime
from worker import runtime
from worker.store import Store
from worker.sync.drain import ConcurrencyLimit, DrainResult, SourceContext
from worker.sync.retry_policy import Policy
from worker.vod.testing import FakeVod

SECOND = timedelta(seconds=1)
POLICY = Policy(calls_per_second=1000, linger=timedelta(0))

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Harness:
    """The tasks of a worker that serves the sources "a" and "b", each with one asset that VOD knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        self.vods = {"a": FakeVod(), "b": FakeVod()}
        for source, vod in self.vods.items():
            vod.put(element(f"of-{source}"))
        source_contexts = [SourceContext(source, vod, POLICY) for source, vod in self.vods.items()]
        self.runtime = make_runtime(monkeypatch, store, *source_contexts)
        from worker.queue import tasks

        self.tasks: Any = tasks
        self.wakeup_sender, self.log = FakeDoorbell(), RecordingLog()
        monkeypatch.setattr(tasks, "wakeup_sender", lambda: self.wakeup_sender)
        monkeypatch.setattr(tasks, "log", self.log)

    def calls(self) -> dict[str, list[list[str]]]:
        return {source: vod.calls for source, vod in self.vods.items()}


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


def request_both(store: Store) -> None:
    for source in "ab":
        request(store, f"of-{source}", source=source, now=runtime.now() - SECOND)


# A wake-up


def test_a_wake_up_serves_every_source(harness: Harness, store: Store) -> None:
    request_both(store)

    harness.tasks.sync_batch()

    assert harness.calls() == {"a": [["of-a"]], "b": [["of-b"]]}
    assert harness.runtime.claimed_at is not None


@pytest.mark.parametrize("more_waiting", [True, False])
def test_a_wake_up_that_leaves_work_sends_another_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, more_waiting: bool
) -> None:
    monkeypatch.setattr(harness.tasks, "drain", lambda *_, **__: DrainResult(batches=10, more_waiting=more_waiting))

    harness.tasks.sync_batch()

    assert harness.wakeup_sender.rung == more_waiting


def test_a_wake_up_passes_over_a_source_whose_threads_are_taken(harness: Harness, store: Store) -> None:
    request_both(store)
    gate = ConcurrencyLimit(1)
    gate.enter()
    harness.runtime.concurrency_limits = {"a": gate, "b": ConcurrencyLimit(1)}

    harness.tasks.sync_batch()

    assert harness.calls() == {"a": [], "b": [["of-b"]]}


def test_a_wake_up_without_work_is_not_remembered_as_work(harness: Harness) -> None:
    harness.tasks.sync_batch()

    assert harness.runtime.claimed_at is None
    assert harness.wakeup_sender.rung == 0


def test_a_wake_up_while_the_database_is_away_is_no_failure(harness: Harness) -> None:
    vars(harness.runtime)["store"] = AwayStore()

    harness.tasks.sync_batch()

    assert harness.log.phrases == ["work postponed"]
    assert (harness.runtime.claimed_at, harness.wakeup_sender.rung) == (None, 0)


def test_a_stopping_worker_takes_nothing_more(harness: Harness, store: Store) -> None:
    request_both(store)
    harness.runtime.stopping.set()

    harness.tasks.sync_batch()

    assert harness.calls() == {"a": [], "b": []}


# A source's own thread


def test_a_sources_own_thread_serves_that_source_alone_and_needs_no_gate(harness: Harness, store: Store) -> None:
    request_both(store)
    gate = ConcurrencyLimit(1)
    gate.enter()
    harness.runtime.concurrency_limits = {"a": gate, "b": ConcurrencyLimit(1)}

    worked = harness.tasks.work("a")

    assert harness.calls() == {"a": [["of-a"]], "b": []}
    assert worked == DrainResult(batches=1, more_waiting=False)


# The sweep


@pytest.mark.parametrize(
    ("requested", "rung"),
    [(-SECOND, 1), (timedelta(hours=1), 0), (None, 0)],
    ids=["a request is due", "a request waits", "no request"],
)
def test_a_sweep_sends_a_wake_up_only_if_something_is_due(
    harness: Harness, store: Store, requested: timedelta | None, rung: int
) -> None:
    if requested is not None:
        request(store, "of-a", source="a", now=runtime.now() + requested)

    harness.tasks.sweep()

    assert harness.wakeup_sender.rung == rung
    assert harness.calls() == {"a": [], "b": []}


def test_a_sweep_while_the_database_is_away_is_no_failure(harness: Harness) -> None:
    vars(harness.runtime)["store"] = AwayStore()

    harness.tasks.sweep()

    assert harness.log.phrases == ["sweep postponed"]
    assert harness.wakeup_sender.rung == 0


# The single-video operation


def leave_look_ups(harness: Harness, store: Store) -> None:
    """Fetch an asset of each source, for which the single-video operation is then pending."""
    policy = Policy(calls_per_second=1000, linger=timedelta(0), video_info=True)
    harness.runtime.source_contexts.update({source: SourceContext(source, vod, policy) for source, vod in harness.vods.items()})
    request_both(store)
    harness.tasks.work()
    assert all(lane.owing.is_set() for lane in harness.runtime.source_contexts.values())


def test_look_ups_are_made_for_one_source(harness: Harness, store: Store) -> None:
    leave_look_ups(harness, store)

    harness.tasks.look_up("a")

    assert harness.calls() == {"a": [["of-a"], ["of-a"]], "b": [["of-b"]]}


def test_a_stopping_worker_makes_no_more_look_ups(harness: Harness, store: Store) -> None:
    leave_look_ups(harness, store)
    harness.runtime.stopping.set()

    harness.tasks.look_up("a")

    assert harness.calls() == {"a": [["of-a"]], "b": [["of-b"]]}


def test_look_ups_while_the_database_is_away_are_no_failure(harness: Harness) -> None:
    vars(harness.runtime)["store"] = AwayStore()

    harness.tasks.look_up("b")

    assert harness.log.entries == [("look-ups postponed", {"source": "b", "error": "away"})]
