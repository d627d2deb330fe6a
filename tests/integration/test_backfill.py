"""Backfill step by step, on each of the three databases."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, element, notify, source_context
from tests.job_worker import FAST, LEASE, JobWorker
from tests.sync_harness import replace_method
from worker.core.errors import VodRefusedError
from worker.store import Store
from worker.store.inbox.sync_requests import LIVE
from worker.store.jobs.job_rows import JobState
from worker.store.tables import sync_request
from worker.sync.batch import sync_batch
from worker.sync.jobs.run import run_jobs


@pytest.fixture
def worker(store: Store) -> JobWorker:
    return JobWorker(store)


def test_backfill_stores_every_asset_once(worker: JobWorker) -> None:
    videos, audios = worker.library(320), worker.library(30, prefix="audio")

    job = worker.finish(worker.start("backfill"))

    assert job.state == JobState.DONE
    assert worker.states() == dict.fromkeys([*videos, *audios], "ok")
    assert job.counters == {"total": 350, "listed": 350, "requested": 350, "known": 0, "fetched": 350}
    # The totals, the pages, and for each type a search for assets since the start.
    assert worker.searches() == 2 + 4 + 1 + 2


def test_a_second_backfill_requests_only_missing_and_changed_assets(worker: JobWorker) -> None:
    videos = worker.library(30)
    worker.finish(worker.start("backfill"))
    worker.vod.put(element(videos[3], Title="new", CreationTime="2025-06-01T00:00:00Z", ModificationTime="2026-02-01T00:00:00Z"))
    worker.library(5, first=40)

    job = worker.finish(worker.start("backfill"))

    assert job.counters["requested"] == 6
    assert job.counters["known"] == 29


def test_backfill_is_limited_to_times_statuses_and_types(worker: JobWorker) -> None:
    worker.library(30), worker.library(10, prefix="audio")
    since = (NOON - timedelta(days=300) + timedelta(minutes=5)).isoformat()
    until = (NOON - timedelta(days=300) + timedelta(minutes=8)).isoformat()

    worker.finish(worker.start("backfill", since=since, until=until, type=["video"]))
    with_status_blocked = worker.finish(worker.start("backfill", status=["Blocked"]))
    dry = worker.finish(worker.start("backfill", dry_run=True))

    assert sorted(worker.states()) == ["m00005", "m00006", "m00007", "m00008"]
    assert with_status_blocked.counters["listed"] == 0
    assert (dry.counters["listed"], dry.counters["requested"]) == (40, 36)


def test_backfill_fills_the_batch_of_a_live_notification(worker: JobWorker) -> None:
    videos = worker.library(60)
    job = worker.start_counted("backfill")
    worker.step()
    notify(worker.store, videos[50], now=NOON + SECOND)

    sync_batch(worker.store, source_context(worker.vod, FAST), now=NOON + 3 * SECOND, sleep=lambda seconds: None)

    assert videos[50] in worker.vod.calls[-1]
    assert len(worker.vod.calls[-1]) == 20
    assert worker.finish(job).counters["fetched"] == 60


def test_a_backfill_pauses_while_enough_requests_are_pending(worker: JobWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sync.jobs.listing.MAX_UNFETCHED", 150)
    worker.library(500)
    job = worker.start("backfill")
    most = 0
    for _ in range(10):
        run_jobs(worker.store, worker.kinds, now=lambda: worker.now, lease=LEASE, stopping=threading.Event())
        worker.now += SECOND
        with worker.store.reading() as connection:
            most = max(most, len(connection.execute(select(sync_request.c.media_id)).all()))

    assert most == 200
    assert worker.finish(job).counters["fetched"] == 500


def test_a_step_that_requests_assets_wakes_other_workers(worker: JobWorker) -> None:
    worker.library(150)
    wakeups: list[bool] = []
    worker.start_counted("backfill")

    for _ in range(4):
        worker.step(wake_workers=lambda: wakeups.append(True))

    # One for each of the two pages that are not empty.
    assert len(wakeups) == 2


def test_dead_letters_are_not_counted_as_fetched(worker: JobWorker) -> None:
    worker.library(30)
    error = VodRefusedError("no", code="InvalidParameter", status=400)

    def refuse(_media_ids: list[str], _reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        raise error

    replace_method(worker.vod, "batch_get_media_infos", refuse)

    job = worker.finish(worker.start("backfill"))

    assert (job.state, job.counters["requested"], job.counters["fetched"], job.counters["dead"]) == (JobState.DONE, 30, 0, 30)


def test_a_live_request_stays_live_if_a_backfill_requests_the_same_asset(worker: JobWorker) -> None:
    videos = worker.library(10)
    notify(worker.store, videos[0])
    worker.start("backfill")
    worker.step()

    with worker.store.reading() as connection:
        row = connection.execute(
            select(sync_request.c.priority, sync_request.c.generation).where(sync_request.c.media_id == videos[0])
        ).one()
    assert row == (LIVE, 1)


ODD_ROWS = [
    {"CreationTime": 1484135465000},
    {"CreationTime": "N/A"},
    {"CreationTime": "0000-00-00T00:00:00Z", "ModificationTime": ["odd"]},
    {"MediaId": {"odd": 1}},
]


@pytest.mark.parametrize("kind", ["backfill", "reconcile"])
def test_an_odd_row_of_a_listing_stops_no_job(worker: JobWorker, kind: str) -> None:
    videos = worker.library(30)
    search = worker.vod.search_media

    def with_odd_rows(*arguments: Any) -> dict[str, Any]:
        answer = search(*arguments)
        for row, odd in zip(answer["MediaList"], ODD_ROWS, strict=False):
            row |= odd
        return answer

    replace_method(worker.vod, "search_media", with_odd_rows)
    job = worker.finish(worker.start(kind))

    # The row without a readable id costs itself, the others an odd field. The time inside a row is used if the outer one is odd.
    assert job.state == JobState.DONE
    assert sorted(worker.states()) == [media_id for media_id in videos if media_id != videos[3]]
    assert job.counters["unreadable"] == 4
