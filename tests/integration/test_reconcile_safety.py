"""What keeps a reconciliation from deleting too much, or too little."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, element, request, source_context
from tests.sync_harness import replace_method
from worker.core.errors import VodCredentialsError, VodError, VodThrottledError
from worker.store import Store
from worker.store.inbox.sync_requests import LIVE
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.store.tables import media
from worker.sync.batch import BatchResult, sync_batch
from worker.sync.jobs.listing import Listing
from worker.sync.jobs.reconcile import Reconcile
from worker.sync.jobs.run import run_jobs
from worker.sync.source_context import SyncSettings
from worker.vod.testing import FakeVod

SHARED = SyncSettings(rate_limit_name="account", calls_per_second=10_000)
LEASE = timedelta(seconds=60)

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Installation:
    """One worker that reconciles and fetches; its clock moves a second with each step."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.vod = FakeVod()
        self.now = NOON
        listing = Listing(store, self.vod, "default", "account", 10_000, sleep=lambda _seconds: None)
        self._kinds = {("default", "reconcile"): Reconcile(listing, SHARED, most_deleted_percent=5)}

    def add(self, *media_ids: str, created: str = "2025-06-01T00:00:00Z") -> None:
        self.vod.put(*(element(media_id, CreationTime=created, ModificationTime=created) for media_id in media_ids))

    def store_library(self, count: int) -> list[str]:
        """Create `count` assets at VOD and reconcile, so that they are stored."""
        media_ids = [f"m{number:03}" for number in range(count)]
        self.add(*media_ids)
        self.finish(self.start(full=True))
        return media_ids

    def start(self, *, full: bool, **options: bool) -> Job:
        parameters = {"full": full, "dry_run": False} | options
        job, _ = self.store.transact(lambda connection: Jobs(connection).start("default", "reconcile", parameters, now=self.now))
        return job

    def step(self) -> None:
        stopping, longest = threading.Event(), timedelta(0)
        run_jobs(self.store, self._kinds, now=lambda: self.now, lease=LEASE, stopping=stopping, longest=longest)
        self.now += SECOND

    def fetch(self) -> BatchResult:
        return sync_batch(self.store, source_context(self.vod, SHARED), now=self.now, sleep=lambda _seconds: None)

    def fetch_all(self) -> None:
        while self.fetch().claimed:
            self.now += SECOND

    def step_until(self, job: Job, condition: Callable[[Job], bool]) -> Job:
        for _ in range(200):
            if condition(job):
                return job
            self.step()
            self.fetch_all()
            job = self.find(job)
        raise AssertionError(f"not reached: {job}")

    def reach(self, job: Job, phase: str) -> Job:
        return self.step_until(job, lambda current: (current.checkpoint or {}).get("phase") == phase)

    def finish(self, job: Job) -> Job:
        return self.step_until(job, lambda current: current.state != JobState.RUNNING)

    def find(self, job: Job) -> Job:
        with self.store.reading() as connection:
            stored = Jobs(connection).find(job.id)
        assert stored is not None
        return stored

    def state(self, media_id: str) -> str:
        with self.store.reading() as connection:
            return str(connection.execute(select(media.c.state).where(media.c.media_id == media_id)).scalar_one())

    def hide_from_search(self, media_id: str) -> None:
        """VOD knows the asset, but its search index does not show it."""
        search = self.vod.search_media

        def search_without(*arguments: Any) -> dict[str, Any]:
            hidden = self.vod.media.pop(media_id)
            answer = search(*arguments)
            self.vod.media[media_id] = hidden
            return answer

        replace_method(self.vod, "search_media", search_without)


@pytest.fixture
def installation(store: Store) -> Installation:
    return Installation(store)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(VodThrottledError("Throttling.User", retry_after=30), 25), (VodCredentialsError("InvalidAccessKeyId"), 50)],
    ids=str,
)
def test_an_account_error_in_the_check_of_suspects_stops_every_call_of_that_account(
    installation: Installation, error: VodError, seconds: float
) -> None:
    media_ids = installation.store_library(40)
    del installation.vod.media[media_ids[0]]
    job = installation.reach(installation.start(full=True), "ask")
    request(installation.store, media_ids[1], now=installation.now - SECOND)
    calls_before = len(installation.vod.calls)
    installation.vod.fail(error)

    installation.step()
    batch = installation.fetch()

    with installation.store.reading() as connection:
        (back_off,) = RateLimiter(connection).back_offs()
    assert (back_off.source, back_off.operation, back_off.fault) == ("account", BATCH_GET_MEDIA_INFOS, str(error))
    assert len(installation.vod.calls) == calls_before + 1
    assert batch.wait is not None
    assert batch.wait > seconds * SECOND
    assert installation.find(job).last_error == str(error)


def test_an_asset_created_after_the_start_of_the_job_is_not_suspected(installation: Installation) -> None:
    """The listing ends at the start of the job, so that it proves nothing about newer assets."""
    media_ids = installation.store_library(40)
    job = installation.start(full=True)
    installation.now += timedelta(minutes=1)
    installation.add("younger", created=f"{installation.now - 30 * SECOND:%Y-%m-%dT%H:%M:%SZ}")
    installation.hide_from_search("younger")
    installation.hide_from_search(media_ids[0])
    request(installation.store, "younger", now=installation.now)
    installation.now += SECOND
    installation.fetch_all()

    finished = installation.finish(job)

    assert installation.state("younger") == "ok"
    assert (finished.state, finished.counters["suspected"]) == (JobState.DONE, 1)


def test_an_asset_that_was_shown_again_after_the_first_check_is_not_marked_as_deleted(installation: Installation) -> None:
    """Suspects are checked in several calls; the deletion is as old as the first of them."""
    media_ids = installation.store_library(60)
    gone = media_ids[:21]
    returning = installation.vod.media[gone[0]]
    for media_id in gone:
        del installation.vod.media[media_id]
    job = installation.reach(installation.start(full=True, allow_mass_delete=True), "ask")
    installation.step()
    checked = installation.find(job).counters["gone"]
    installation.vod.put(returning)
    request(installation.store, gone[0], priority=LIVE, now=installation.now - SECOND)
    installation.fetch()

    finished = installation.finish(job)

    assert (checked, finished.counters["gone"]) == (20, 21)
    assert installation.state(gone[0]) == "ok"
    assert {installation.state(media_id) for media_id in gone[1:]} == {"deleted"}


def test_a_dry_run_finds_a_vanished_asset_beside_a_new_one(installation: Installation) -> None:
    """A dry run stores no new asset, so that as many assets are stored as VOD counts, although one is gone."""
    media_ids = installation.store_library(40)
    del installation.vod.media[media_ids[0]]
    installation.add("new", created=f"{installation.now:%Y-%m-%dT%H:%M:%SZ}")

    finished = installation.finish(installation.start(full=False, dry_run=True))

    assert (finished.state, finished.counters["missed"], finished.counters["gone"]) == (JobState.DONE, 1, 1)
    assert installation.state(media_ids[0]) == "ok"


@pytest.mark.parametrize(
    ("vanished", "state", "deleted"), [(5, JobState.DONE, 5), (6, JobState.FAILED, 0)], ids=["at the limit", "above it"]
)
def test_deletions_up_to_the_limit_are_allowed(installation: Installation, vanished: int, state: str, deleted: int) -> None:
    media_ids = installation.store_library(100)
    for media_id in media_ids[:vanished]:
        del installation.vod.media[media_id]

    finished = installation.finish(installation.start(full=True))

    assert (finished.state, finished.counters.get("deleted", 0)) == (state, deleted)


def test_the_limit_of_deletions_stays_the_same_while_groups_are_marked(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each marked group leaves fewer stored assets; the share refers to all assets before the first group."""
    monkeypatch.setattr("worker.sync.jobs.reconcile.MARKED_PER_STEP", 2)
    media_ids = installation.store_library(100)
    for media_id in media_ids[:5]:
        del installation.vod.media[media_id]

    finished = installation.finish(installation.start(full=True))

    assert (finished.state, finished.counters.get("deleted", 0)) == (JobState.DONE, 5)
