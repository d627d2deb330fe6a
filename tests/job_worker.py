"""A worker for tests of jobs: it runs steps of jobs and batches in turn, with a fake VOD and a clock of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from tests.builders import NOON, SECOND, element, source_context
from tests.sync_harness import replace_method
from worker.store import Store
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.store.tables import media
from worker.sync.batch import sync_batch
from worker.sync.jobs.backfill import Backfill
from worker.sync.jobs.listing import Listing
from worker.sync.jobs.reconcile import Reconcile
from worker.sync.jobs.run import run_jobs
from worker.sync.source_context import SyncSettings
from worker.vod.testing import FakeVod

FAST = SyncSettings(calls_per_second=10_000)
LEASE = timedelta(seconds=60)


class JobWorker:
    """One worker that runs a step of a job and the due batches in turn. Its clock advances a second with each turn."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.vod = FakeVod()
        self.now = NOON
        self.listing = Listing(store, self.vod, "default", "default", 10_000, sleep=lambda _seconds: None)
        self.kinds: dict[tuple[str, str], Any] = {
            ("default", "backfill"): Backfill(self.listing),
            ("default", "reconcile"): Reconcile(self.listing, FAST, most_deleted_percent=5),
        }

    def library(self, count: int, *, first: int = 0, prefix: str = "m") -> list[str]:
        """Create `count` assets at VOD, one a minute. Return their ids."""
        media_ids = [f"{prefix}{index:05}" for index in range(first, first + count)]
        for index, media_id in enumerate(media_ids, first):
            created = vod_time(NOON - timedelta(days=300) + timedelta(minutes=index))
            self.vod.put(element(media_id, CreationTime=created, ModificationTime=created))
        return media_ids

    def start(self, kind: str, **parameters: Any) -> Job:
        job, _ = self.store.transact(lambda connection: Jobs(connection).start("default", kind, parameters, now=self.now))
        return job

    def start_counted(self, kind: str) -> Job:
        """Start a job and run its first two steps, which fetch the totals, but no page."""
        job = self.start(kind)
        for _ in range(2):
            self.step()
        return self.find(job)

    def step(self, wake_workers: Callable[[], object] = lambda: None) -> None:
        """Run one step of a job."""
        run_jobs(
            self.store,
            self.kinds,
            now=lambda: self.now,
            lease=LEASE,
            stopping=threading.Event(),
            longest=timedelta(0),
            wake_workers=wake_workers,
        )

    def turn(self) -> None:
        """Run one step of a job, then all batches that are due."""
        self.step()
        self.now += SECOND
        while sync_batch(self.store, source_context(self.vod, FAST), now=self.now, sleep=lambda _seconds: None).claimed:
            self.now += SECOND

    def finish(self, job: Job, *, within: int = 400) -> Job:
        """Run turns until the job is over."""
        for _ in range(within):
            self.turn()
            job = self.find(job)
            if job.state != JobState.RUNNING:
                return job
        raise AssertionError(f"not over after {within} turns: {job}")

    def find(self, job: Job) -> Job:
        stored = self.store.transact(lambda connection: Jobs(connection).find(job.id))
        assert stored is not None
        return stored

    def states(self) -> dict[str, str]:
        with self.store.reading() as connection:
            return {row.media_id: row.state for row in connection.execute(select(media.c.media_id, media.c.state))}

    def rows(self) -> list[tuple[str, str, datetime]]:
        """Return id, state and time of observation of every stored asset."""
        with self.store.reading() as connection:
            rows = connection.execute(select(media.c.media_id, media.c.state, media.c.observed_at))
            return sorted((row.media_id, row.state, row.observed_at) for row in rows)

    def searches(self) -> int:
        """Return how many pages were requested from VOD."""
        return sum(call[0] in ("video", "audio") for call in self.vod.calls)

    def during_search(self, action: Callable[[], None]) -> None:
        """Run `action` during each search."""
        search = self.vod.search_media

        def search_with_action(*arguments: Any) -> dict[str, Any]:
            action()
            return search(*arguments)

        replace_method(self.vod, "search_media", search_with_action)

    def hide_from_search(self, media_id: str) -> None:
        """VOD knows the asset, but its search index does not show it."""
        search = self.vod.search_media

        def search_without(*arguments: Any) -> dict[str, Any]:
            hidden = self.vod.media.pop(media_id)
            answer = search(*arguments)
            self.vod.media[media_id] = hidden
            return answer

        replace_method(self.vod, "search_media", search_without)

    def search_without_order(self) -> None:
        """Searches ignore the requested order."""
        search = self.vod.search_media

        def search_by_id(search_type: str, match: str, _sort_by: str, page: int, token: str | None = None) -> dict[str, Any]:
            return search(search_type, match, "MediaId:Asc", page, token)

        replace_method(self.vod, "search_media", search_by_id)


def vod_time(at: datetime) -> str:
    """Return a time in the form in which VOD sends it."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
