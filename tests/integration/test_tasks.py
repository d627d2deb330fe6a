"""What the tasks do for a wake-up, for the periodic sweep and for the thread of one source."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import element, request
from tests.worker_fakes import AwayStore, FakeWakeupSender, RecordingLog, make_runtime
from worker.outage import Outage
from worker.store import Store
from worker.sync.drain import ConcurrencyLimit, DrainResult
from worker.sync.source_context import SourceContext, SyncSettings
from worker.vod.testing import FakeVod

SECOND = timedelta(seconds=1)
SETTINGS = SyncSettings(calls_per_second=1000, linger=timedelta(0))

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Harness:
    """The tasks of a worker that serves the sources "a" and "b", each with one asset that VOD knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        self.vods = {"a": FakeVod(), "b": FakeVod()}
        for source, vod in self.vods.items():
            vod.put(element(f"of-{source}"))
        contexts = [SourceContext(source, vod, SETTINGS) for source, vod in self.vods.items()]
        self.runtime = make_runtime(monkeypatch, store, *contexts)
        from worker.queue import tasks

        self.tasks: Any = tasks
        self.wakeup_sender, self.log = FakeWakeupSender(), RecordingLog()
        monkeypatch.setattr(tasks, "wakeup_sender", lambda: self.wakeup_sender)
        monkeypatch.setattr(tasks, "log", self.log)
        for name in ("_sweep_outage", "_work_outage", "_look_up_outage"):
            monkeypatch.setattr(tasks, name, Outage())

    def calls(self) -> dict[str, list[list[str]]]:
        return {source: vod.calls for source, vod in self.vods.items()}


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


def request_both(store: Store) -> None:
    for source in "ab":
        request(store, f"of-{source}", source=source, now=store.now() - SECOND)


# A wake-up


def test_a_wake_up_serves_every_source(harness: Harness, store: Store) -> None:
    request_both(store)

    harness.tasks.drain_task()

    assert harness.calls() == {"a": [["of-a"]], "b": [["of-b"]]}
    assert harness.runtime.claimed_at is not None


@pytest.mark.parametrize("more_waiting", [True, False])
def test_a_wake_up_that_leaves_work_sends_another_wake_up(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, more_waiting: bool
) -> None:
    monkeypatch.setattr(harness.tasks, "drain", lambda *_, **__: DrainResult(batches=10, more_waiting=more_waiting))

    harness.tasks.drain_task()

    assert harness.wakeup_sender.sent == more_waiting


def test_a_wake_up_skips_a_source_whose_concurrency_limit_is_reached(harness: Harness, store: Store) -> None:
    request_both(store)
    limit = ConcurrencyLimit(1)
    limit.try_enter()
    harness.runtime.concurrency_limits = {"a": limit, "b": ConcurrencyLimit(1)}

    harness.tasks.drain_task()

    assert harness.calls() == {"a": [], "b": [["of-b"]]}


def test_a_wake_up_without_work_is_not_recorded_as_a_claim(harness: Harness) -> None:
    harness.tasks.drain_task()

    assert harness.runtime.claimed_at is None
    assert harness.wakeup_sender.sent == 0


def test_a_wake_up_does_not_fail_while_the_database_is_away(harness: Harness) -> None:
    vars(harness.runtime)["store"] = AwayStore()

    harness.tasks.drain_task()

    assert harness.log.phrases == ["work postponed"]
    assert (harness.runtime.claimed_at, harness.wakeup_sender.sent) == (None, 0)


def test_a_stopping_worker_claims_nothing_more(harness: Harness, store: Store) -> None:
    request_both(store)
    harness.runtime.stopping.set()

    harness.tasks.drain_task()

    assert harness.calls() == {"a": [], "b": []}


# The thread of one source


def test_the_thread_of_a_source_serves_only_that_source_and_has_no_concurrency_limit(harness: Harness, store: Store) -> None:
    request_both(store)
    limit = ConcurrencyLimit(1)
    limit.try_enter()
    harness.runtime.concurrency_limits = {"a": limit, "b": ConcurrencyLimit(1)}

    result = harness.tasks.work("a")

    assert harness.calls() == {"a": [["of-a"]], "b": []}
    assert result == DrainResult(batches=1, more_waiting=False)


# The sweep


@pytest.mark.parametrize(
    ("requested", "sent"),
    [(-SECOND, 1), (timedelta(hours=1), 0), (None, 0)],
    ids=["a request is due", "a request waits", "no request"],
)
def test_a_sweep_sends_a_wake_up_only_if_something_is_due(
    harness: Harness, store: Store, requested: timedelta | None, sent: int
) -> None:
    if requested is not None:
        request(store, "of-a", source="a", now=store.now() + requested)

    harness.tasks.sweep()

    assert harness.wakeup_sender.sent == sent
    assert harness.calls() == {"a": [], "b": []}


def test_a_sweep_does_not_fail_while_the_database_is_away(harness: Harness) -> None:
    vars(harness.runtime)["store"] = AwayStore()

    harness.tasks.sweep()

    assert harness.log.phrases == ["sweep postponed"]
    assert harness.wakeup_sender.sent == 0


# GetVideoInfo


def leave_look_ups(harness: Harness, store: Store) -> None:
    """Fetch an asset of each source. Its call of GetVideoInfo is then pending."""
    settings = SyncSettings(calls_per_second=1000, linger=timedelta(0), video_info=True)
    harness.runtime.source_contexts.update({source: SourceContext(source, vod, settings) for source, vod in harness.vods.items()})
    request_both(store)
    harness.tasks.work()
    assert all(context.video_info_due.is_set() for context in harness.runtime.source_contexts.values())


def test_look_ups_are_made_for_one_source(harness: Harness, store: Store) -> None:
    leave_look_ups(harness, store)

    harness.tasks.look_up("a")

    assert harness.calls() == {"a": [["of-a"], ["of-a"]], "b": [["of-b"]]}


def test_a_stopping_worker_makes_no_more_look_ups(harness: Harness, store: Store) -> None:
    leave_look_ups(harness, store)
    harness.runtime.stopping.set()

    harness.tasks.look_up("a")

    assert harness.calls() == {"a": [["of-a"]], "b": [["of-b"]]}


def test_look_ups_do_not_fail_while_the_database_is_away(harness: Harness) -> None:
    vars(harness.runtime)["store"] = AwayStore()

    harness.tasks.look_up("b")

    assert harness.log.entries == [("look-ups postponed", {"source": "b", "error": "away"})]
