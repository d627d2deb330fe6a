"""How a worker looks for due jobs: how often, for which source, and what happens after a failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.fake_time import FakeTime
from tests.worker_fakes import AwayStore, FakeWakeupSender, RecordingLog, make_runtime
from worker import background
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.sync.jobs.step import Step
from worker.sync.source_context import SourceContext
from worker.vod.testing import FakeVod

ENVIRON = {"VODSYNC_RECONCILE_HOURS": "6", "VODSYNC_RECONCILE_FULL_DAYS": "30"}


class Checkpoint(msgspec.Struct):
    """Without fields."""


class OneStep:
    """A kind of job that is done after one step and requests one asset."""

    def __init__(self) -> None:
        self.sources: list[str] = []

    def step(self, job: Job, *, now: Any) -> Step:
        self.sources.append(job.source)
        return Step.to(Checkpoint(), {"requested": 1}, is_last=True)


class NoPruner:
    """Replaces the pruner. Nothing is old enough to be deleted."""

    def prune_if_due(self, **_: Any) -> None:
        pass


class Harness:
    """A worker's job runner over `store`, for the sources "a" and "b"."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        contexts = [SourceContext(source, FakeVod()) for source in "ab"]
        self.kind = OneStep()
        kinds = {(source, "backfill"): self.kind for source in "ab"}
        self.runtime = make_runtime(monkeypatch, store, *contexts, kinds=kinds, environ=ENVIRON)
        from worker.queue.services import job_runner

        self.module: Any = job_runner
        self.log, self.background_log, self.wakeup_sender = RecordingLog(), RecordingLog(), FakeWakeupSender()
        monkeypatch.setattr(job_runner, "log", self.log)
        monkeypatch.setattr(background, "log", self.background_log)
        monkeypatch.setattr(job_runner, "wakeup_sender", lambda: self.wakeup_sender)
        monkeypatch.setattr(job_runner, "Pruner", lambda *_: NoPruner())
        self.time = FakeTime().install(monkeypatch, "worker.queue.services.job_runner")
        self.service = job_runner.JobRunner(SimpleNamespace())

    def run(self, source: str, *, steps: int) -> list[float]:
        """Make steps of one source. Return the pause after each, in seconds; that time passes."""
        runner = self.module.SourceJobRunner(self.runtime, source, NoPruner())
        pauses = []
        for _ in range(steps):
            pauses.append(runner.step())
            self.time.sleep(pauses[-1])
        return pauses


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch, AwayStore())


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


class Outcomes:
    """Replaces `run_jobs` and `start_due`: one outcome after another, and the last one for ever."""

    def __init__(self, *outcomes: bool | Exception) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[dict[str, Any]] = []
        self.during_call: Callable[[], None] = lambda: None

    def __call__(self, *_: Any, **fields: Any) -> bool:
        self.calls.append(fields)
        self.during_call()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def replace(harness: Harness, monkeypatch: pytest.MonkeyPatch, run_jobs: Outcomes, start_due: Outcomes | None = None) -> None:
    monkeypatch.setattr(harness.module, "run_jobs", run_jobs)
    monkeypatch.setattr(harness.module, "start_due", start_due or Outcomes(False))


# Pauses


def test_pauses_grow_while_no_job_is_due_and_are_zero_after_one_was(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(harness, monkeypatch, Outcomes(False, False, False, False, False, True, True, False))

    pauses = harness.run("a", steps=9)

    assert pauses == [0.1, 0.2, 0.4, 0.5, 0.5, 0, 0, 0.1, 0.2]


def test_a_database_outage_is_logged_and_the_runner_tries_again_after_a_pause(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_jobs = Outcomes(True, StoreUnavailableError("away"), StoreUnavailableError("away"), True)
    replace(harness, monkeypatch, run_jobs)

    pauses = harness.run("a", steps=5)

    assert pauses == [0, 0.1, 0.2, 0, 0]
    assert harness.log.entries == [
        ("jobs postponed", {"source": "a", "error": "away"}),
        ("jobs continue", {"source": "a"}),
    ]
    assert len(run_jobs.calls) == 5


def test_a_fault_of_ours_is_logged_and_the_runner_continues(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    run_jobs, continued = Outcomes(ZeroDivisionError(), ZeroDivisionError(), True), threading.Event()
    replace(harness, monkeypatch, run_jobs)
    loop, _ = harness.service.loops(concurrency=2)

    def end_the_pause() -> None:
        loop.wake()
        if len(run_jobs.calls) == 3:
            continued.set()

    run_jobs.during_call = end_the_pause
    loop.start()
    has_continued = continued.wait(60)
    loop.stop()
    loop.join(60)

    assert has_continued
    assert harness.background_log.phrases == ["job failed"]


# The schedule


def test_the_schedule_is_checked_at_the_start_and_every_quarter_of_a_minute(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_due, checked_at = Outcomes(False), list[float]()
    replace(harness, monkeypatch, Outcomes(False), start_due)
    start_due.during_call = lambda: checked_at.append(harness.time.elapsed.total_seconds())

    harness.run("a", steps=100)

    assert len(checked_at) == 4
    assert checked_at[0] == 0
    assert all(14.9 < later - earlier < 15.6 for earlier, later in pairwise(checked_at))


def test_reconciliations_start_at_the_configured_intervals(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    start_due = Outcomes(False)
    replace(harness, monkeypatch, Outcomes(False), start_due)

    harness.run("a", steps=1)

    intervals = [(call["every"], call["full_every"]) for call in start_due.calls]
    assert intervals == [(timedelta(hours=6), timedelta(days=30))]


def test_a_schedule_that_fails_delays_jobs_by_one_step(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    run_jobs = Outcomes(True)
    replace(harness, monkeypatch, run_jobs, Outcomes(StoreUnavailableError("away")))

    harness.run("a", steps=3)

    # The first step ended at the schedule, which is not checked again for a while.
    assert harness.log.phrases == ["jobs postponed", "jobs continue"]
    assert len(run_jobs.calls) == 2


# Jobs


def start_job(store: Store, source: str) -> None:
    store.transact(lambda connection: Jobs(connection).start(source, "backfill", {}, now=store.now()))


def states(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {job.source: job.state for job in Jobs(connection).latest(limit=10)}


def test_the_runner_of_a_source_works_only_on_jobs_of_that_source(stored: Harness, store: Store) -> None:
    for source in "ab":
        start_job(store, source)

    stored.run("b", steps=2)

    assert states(store) == {"a": JobState.RUNNING, "b": JobState.DONE}
    assert stored.kind.sources == ["b"]
    assert stored.wakeup_sender.sent == 1


def test_each_source_has_its_own_thread_and_a_stop_waits_for_all(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    both_inside, sources = threading.Barrier(2), set[str]()

    def run_jobs(_store: Store, kinds: dict[tuple[str, str], Any], *, stopping: threading.Event, **_: Any) -> bool:
        sources.update(source for source, _ in kinds)
        both_inside.wait(60)
        stopping.wait(60)
        return True

    monkeypatch.setattr(harness.module, "run_jobs", run_jobs)
    monkeypatch.setattr(harness.module, "start_due", Outcomes(False))
    harness.service.start(SimpleNamespace(concurrency=2))
    loops = list(harness.service._loops)

    harness.service.stop(SimpleNamespace())

    assert sorted(loop.name for loop in loops) == ["job-runner a", "job-runner b"]
    assert [loop.name for loop in loops if loop.is_alive] == []
    assert sources == {"a", "b"}
