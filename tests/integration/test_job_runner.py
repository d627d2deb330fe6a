"""How a worker looks for long runs: how often, for which source, and what it does about failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fake_time import FakeTime
from tests.worker_fakes import AwayStore, FakeDoorbell, RecordingLog, StopAfter, make_runtime
from worker import runtime
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.sync.drain import SourceContext
from worker.sync.jobs.run import Step
from worker.sync.retry_policy import Policy
from worker.vod.testing import FakeVod

ENVIRON = {"VODSYNC_RECONCILE_HOURS": "6", "VODSYNC_RECONCILE_FULL_DAYS": "30"}


class OneStep:
    """A kind of job that is done after one step and requests one asset."""

    def __init__(self) -> None:
        self.worked_on: list[str] = []

    def step(self, job: Job, *, now: Any) -> Step:
        self.worked_on.append(job.source)
        return Step({}, store=lambda _: {"requested": 1}, done=True)


class NothingOld:
    """In place of the pruner."""

    def look(self, **_: Any) -> bool:
        return False


class Harness:
    """A worker's runner over `store`, for the sources "a" and "b"."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        source_contexts = [SourceContext(source, FakeVod(), Policy()) for source in "ab"]
        self.runtime = make_runtime(monkeypatch, store, *source_contexts, environ=ENVIRON)
        self.kind = OneStep()
        self.runtime.kinds.update({(source, "backfill"): self.kind for source in "ab"})  # type: ignore[attr-defined]
        from worker.queue.services import job_runner

        self.module: Any = runner
        self.log, self.wakeup_sender = RecordingLog(), FakeDoorbell()
        monkeypatch.setattr(job_runner, "log", self.log)
        monkeypatch.setattr(job_runner, "wakeup_sender", lambda: self.wakeup_sender)
        self.time = FakeTime().install(monkeypatch, "worker.queue.services.job_runner")
        self.runner = self.module.JobRunner(SimpleNamespace())
        self.runner._pruner = NothingOld()

    def run(self, source: str, *, rounds: int) -> list[float]:
        """Run the loop of one source; returns its pauses in seconds, during which time passes."""
        stopped = StopAfter(rounds, passes=self.time.sleep)
        self.runner._stopped = stopped
        self.runner._run(source)
        return stopped.pauses


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch, AwayStore())


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


class Outcomes:
    """In place of `run_jobs` and `start_due`: one outcome after another, then the last one for ever."""

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


def test_looks_become_rarer_while_no_job_is_due_and_follow_at_once_after_one_was(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(harness, monkeypatch, Outcomes(False, False, False, False, False, True, True, False))

    pauses = harness.run("a", rounds=10)

    assert pauses == [0, 0.1, 0.2, 0.4, 0.5, 0.5, 0, 0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("error", "phrase"),
    [(StoreUnavailableError("away"), "jobs postponed"), (ZeroDivisionError(), "job failed")],
    ids=["database is away", "a fault of ours"],
)
def test_a_failure_is_logged_and_the_runner_looks_again_after_a_pause(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, error: Exception, phrase: str
) -> None:
    run_jobs = Outcomes(True, error, error, True)
    replace(harness, monkeypatch, run_jobs)

    pauses = harness.run("a", rounds=5)

    assert pauses == [0, 0, 0.1, 0.2, 0]
    assert harness.log.phrases == [phrase] * 2
    assert len(run_jobs.calls) == 5


# The clock


def test_the_clock_is_looked_at_at_the_start_and_every_quarter_of_a_minute(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_due, looked_at = Outcomes(False), list[float]()
    replace(harness, monkeypatch, Outcomes(False), start_due)
    start_due.during_call = lambda: looked_at.append(harness.time.elapsed.total_seconds())

    harness.run("a", rounds=100)

    assert len(looked_at) == 4
    assert looked_at[0] == 0
    assert all(14.9 < later - earlier < 15.6 for earlier, later in pairwise(looked_at))


def test_reconciliations_start_at_the_configured_intervals(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    start_due = Outcomes(False)
    replace(harness, monkeypatch, Outcomes(False), start_due)

    harness.run("a", rounds=1)

    intervals = [(call["every"], call["full_every"]) for call in start_due.calls]
    assert intervals == [(timedelta(hours=6), timedelta(days=30))]


def test_a_clock_that_fails_keeps_no_job_waiting_for_long(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    run_jobs = Outcomes(True)
    replace(harness, monkeypatch, run_jobs, Outcomes(StoreUnavailableError("away")))

    harness.run("a", rounds=3)

    # The first round ended at the clock, which is left alone for a while then.
    assert harness.log.phrases == ["jobs postponed"]
    assert len(run_jobs.calls) == 2


# Jobs


def start_job(store: Store, source: str) -> None:
    store.transact(lambda connection: Jobs(connection).start(source, "backfill", {}, now=runtime.now()))


def states(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {job.source: job.state for job in Jobs(connection).latest(limit=10)}


def test_a_sources_runner_works_on_jobs_of_that_source_alone(stored: Harness, store: Store) -> None:
    for source in "ab":
        start_job(store, source)

    stored.run("b", rounds=2)

    assert states(store) == {"a": JobState.RUNNING, "b": JobState.DONE}
    assert stored.kind.worked_on == ["b"]
    assert stored.wakeup_sender.rung == 1


def test_each_source_has_its_own_thread_and_a_stop_waits_for_all(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    both_inside, sources = threading.Barrier(2), set[str]()

    def run_jobs(_store: Store, kinds: dict[tuple[str, str], Any], *, stopping: threading.Event, **_: Any) -> bool:
        sources.update(source for source, _ in kinds)
        both_inside.wait(60)
        stopping.wait(60)
        return True

    monkeypatch.setattr(harness.module, "run_jobs", run_jobs)
    monkeypatch.setattr(harness.module, "start_due", Outcomes(False))
    monkeypatch.setattr(harness.module.Pruner, "look", lambda *_, **__: False)
    harness.runner.start(SimpleNamespace())
    threads = list(harness.runner._threads)

    harness.runner.stop(SimpleNamespace())

    assert sorted(thread.name for thread in threads) == ["runner a", "runner b"]
    assert [thread.name for thread in threads if thread.is_alive()] == []
    assert sources == {"a", "b"}
