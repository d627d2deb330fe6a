"""This release finishes a job that release 0.1.0 started, in any phase."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.builders import NOON, SECOND, element
from worker.store import Store
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.store.tables import job as job_table
from worker.sync.batch import sync_batch
from worker.sync.jobs.listing import Listing
from worker.sync.jobs.registry import kinds_of
from worker.sync.jobs.run import run_jobs
from worker.sync.source_context import SourceContext, SyncSettings
from worker.vod.testing import FakeVod

SETTINGS = SyncSettings(rate_limit_name="account", calls_per_second=10_000)

#: Release 0.1.0 left the keys of earlier phases in the checkpoint of a reconciliation.
LAST_POSITION = {
    "low": "2026-03-01T11:45:35+00:00",
    "high": "2099-12-31T23:59:59+00:00",
    "page": 1,
    "total": None,
    "reached": "2000-01-01T00:00:00+00:00",
    "ordered": True,
    "scrolling": False,
    "token": None,
    "restarts": 0,
    "later": [],
    "over": True,
}
LEFT_BY_LISTING = {"since": None, "type": "audio", "position": LAST_POSITION}
LEFT_BY_CALLS = LEFT_BY_LISTING | {"compared": "m019", "limit": 20, "asked_at": "2026-03-01T12:00:40.044000+00:00"}

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Worker:
    """One worker that runs jobs and fetches; its clock moves a second with each step."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.vod = FakeVod()
        self.now = NOON
        listing = Listing(store, self.vod, "default", "account", 10_000, sleep=lambda _seconds: None)
        kinds = kinds_of(listing, SETTINGS, most_deleted_percent=5)
        self._kinds = {("default", name): kind for name, kind in kinds.items()}

    def start(self, kind: str, parameters: dict[str, Any]) -> Job:
        job, _ = self.store.transact(lambda connection: Jobs(connection).start("default", kind, parameters, now=self.now))
        return job

    def step(self, job: Job) -> Job:
        """Do one step, fetch everything that is due, and return the job."""
        minute, longest = timedelta(minutes=1), timedelta(0)
        run_jobs(self.store, self._kinds, now=lambda: self.now, lease=minute, stopping=threading.Event(), longest=longest)
        self.now += SECOND
        while sync_batch(
            self.store, SourceContext("default", self.vod, SETTINGS), now=self.now, sleep=lambda _seconds: None
        ).claimed:
            self.now += SECOND
        with self.store.reading() as connection:
            stored = Jobs(connection).find(job.id)
        assert stored is not None
        return stored

    def reach(self, job: Job, phase: str) -> Job:
        for _ in range(100):
            if (job.checkpoint or {}).get("phase") == phase:
                return job
            job = self.step(job)
        raise AssertionError(f"not reached: {job}")

    def finish(self, job: Job) -> Job:
        for _ in range(100):
            if job.state.is_final:
                return job
            job = self.step(job)
        raise AssertionError(f"not over: {job}")

    def rewrite(self, job: Job, checkpoint: dict[str, Any]) -> None:
        """Store the checkpoint as release 0.1.0 would have."""
        with self.store.engine.begin() as connection:
            connection.execute(update(job_table).where(job_table.c.id == job.id).values(checkpoint=checkpoint))


@pytest.fixture
def worker(store: Store) -> Worker:
    worker = Worker(store)
    created = "2025-06-01T00:00:00Z"
    media_ids = [f"m{number:03}" for number in range(40)]
    worker.vod.put(*(element(media_id, CreationTime=created, ModificationTime=created) for media_id in media_ids))
    worker.finish(worker.start("reconcile", {"full": True, "allow_mass_delete": False, "dry_run": False}))
    del worker.vod.media["m007"]
    return worker


@pytest.mark.parametrize(
    ("phase", "left_by_release_0_1"),
    [
        ("total", {"since": None}),
        ("list", {}),
        ("compare", LEFT_BY_LISTING),
        ("ask", LEFT_BY_LISTING | {"compared": "m019"}),
        ("mark", LEFT_BY_CALLS),
        ("fetch", LEFT_BY_CALLS),
    ],
)
def test_a_full_reconciliation_continues(worker: Worker, phase: str, left_by_release_0_1: dict[str, Any]) -> None:
    job = worker.reach(worker.start("reconcile", {"full": True, "allow_mass_delete": False, "dry_run": False}), phase)
    worker.rewrite(job, left_by_release_0_1 | (job.checkpoint or {}))

    finished = worker.finish(job)

    assert (finished.state, finished.last_error) == (JobState.DONE, None)
    assert {name: finished.counters[name] for name in ("listed", "suspected", "gone", "deleted")} == {
        "listed": 39,
        "suspected": 1,
        "gone": 1,
        "deleted": 1,
    }


@pytest.mark.parametrize("phase", ["list", "settle", "count"])
def test_an_incremental_reconciliation_continues(worker: Worker, phase: str) -> None:
    job = worker.reach(worker.start("reconcile", {"full": False, "allow_mass_delete": False, "dry_run": False}), phase)
    left = {} if phase == "count" else LEFT_BY_LISTING | {"since": "2026-03-01T11:45:00+00:00"}
    worker.rewrite(job, left | (job.checkpoint or {}))

    finished = worker.finish(job)

    assert (finished.state, finished.last_error, finished.counters["deleted"]) == (JobState.DONE, None, 1)


def test_a_phase_of_a_later_release_waits_for_a_worker_of_that_release(worker: Worker) -> None:
    job = worker.start("reconcile", {"full": True})
    worker.rewrite(job, {"phase": "of a later release"})

    waiting = worker.step(job)
    worker.rewrite(job, {"phase": "fetch", "examples": {}})
    worker.now += timedelta(minutes=1)
    finished = worker.finish(waiting)

    assert waiting.state == JobState.RUNNING
    assert "upgrade this worker" in (waiting.last_error or "")
    assert (finished.state, finished.last_error) == (JobState.DONE, None)
