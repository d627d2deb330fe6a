"""Reconciliation step by step, on each of the three databases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.builders import NOON, SECOND, element, notify, source_context
from tests.job_worker import FAST, JobWorker, vod_time
from tests.sync_harness import replace_method
from worker.core.errors import VodRefusedError, VodUnavailableError
from worker.store import Store
from worker.store.jobs.job_rows import Jobs, JobState
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.store.tables import media, suspect, sync_request
from worker.sync.batch import sync_batch
from worker.sync.jobs.schedule import start_due


@pytest.fixture
def worker(store: Store) -> JobWorker:
    return JobWorker(store)


@pytest.mark.parametrize(
    ("kind", "parameters", "counter"),
    [
        ("backfill", {}, "requested"),
        ("reconcile", {"full": False, "dry_run": False}, "changed"),
        ("reconcile", {"full": True, "dry_run": False}, "changed"),
    ],
)
def test_a_followed_asset_that_changed_is_fetched_at_once(
    worker: JobWorker, kind: str, parameters: dict[str, bool], counter: str
) -> None:
    videos = worker.library(3)
    transcoding = {"Status": "Transcoding", "CreationTime": "2025-06-01T00:00:00Z"}
    worker.vod.put(element("transcoding", ModificationTime="2025-06-01T00:00:00Z", **transcoding))
    worker.vod.put(element("still-transcoding", ModificationTime="2025-06-01T00:00:00Z", **transcoding))
    worker.finish(worker.start("reconcile", full=True, dry_run=False))
    worker.vod.put(element("transcoding", CreationTime="2025-06-01T00:00:00Z", ModificationTime=vod_time(worker.now)))

    job = worker.finish(worker.start(kind, **parameters))

    assert job.counters[counter] == 1
    with worker.store.reading() as connection:
        pending = connection.execute(select(sync_request.c.media_id)).scalars().all()
        statuses = dict(connection.execute(select(media.c.media_id, media.c.status)).all())
    assert pending == ["still-transcoding"]
    assert statuses == {"transcoding": "Normal", "still-transcoding": "Transcoding"} | dict.fromkeys(videos, "Normal")


def test_a_reconciliation_finds_missed_changed_and_deleted_assets(worker: JobWorker) -> None:
    videos, audios = worker.library(320), worker.library(30, prefix="audio")
    worker.finish(worker.start("backfill"))
    worker.vod.media.pop(videos[7])
    worker.vod.media.pop(audios[29])
    worker.vod.put(element(videos[9], Title="new", CreationTime="2025-06-01T00:00:00Z", ModificationTime="2026-02-01T00:00:00Z"))
    appeared = worker.library(5, first=400)

    job = worker.finish(worker.start("reconcile", full=True, dry_run=False))

    states = worker.states()
    assert job.state == JobState.DONE, job.last_error
    assert {name: job.counters[name] for name in ("missed", "changed", "gone", "deleted")} == {
        "missed": 5,
        "changed": 1,
        "gone": 2,
        "deleted": 2,
    }
    assert {media_id for media_id, state in states.items() if state == "deleted"} == {videos[7], audios[29]}
    assert all(states[media_id] == "ok" for media_id in appeared)
    assert job.checkpoint is not None
    assert job.checkpoint["examples"]["gone"] == sorted([videos[7], audios[29]])
    with worker.store.reading() as connection:
        assert connection.execute(select(suspect)).all() == []


def test_an_unchanged_library_costs_only_its_pages_and_writes_no_assets(worker: JobWorker) -> None:
    worker.library(510)
    worker.finish(worker.start("backfill"))
    before, searches = worker.rows(), worker.searches()

    job = worker.finish(worker.start("reconcile", full=True, dry_run=False))

    assert (job.counters["missed"], job.counters["changed"], job.counters.get("suspected", 0)) == (0, 0, 0)
    assert worker.rows() == before
    assert worker.searches() - searches == 2 + 6 + 1 + 2


def test_an_incremental_run_lists_only_changes_since_the_last_success(worker: JobWorker) -> None:
    videos = worker.library(510)
    worker.finish(worker.start("reconcile", full=False, dry_run=False))
    changed = vod_time(worker.now)
    worker.vod.put(element(videos[9], Title="new", CreationTime="2025-06-01T00:00:00Z", ModificationTime=changed))
    searches = worker.searches()

    job = worker.finish(worker.start("reconcile", full=False, dry_run=False))

    assert (job.counters["listed"], job.counters["changed"], job.counters["fetched"]) == (1, 1, 1)
    # Two pages of each type, and its count.
    assert worker.searches() - searches == 6


def test_an_incremental_run_that_counts_fewer_assets_than_stored_lists_all(worker: JobWorker) -> None:
    videos = worker.library(120)
    worker.finish(worker.start("reconcile", full=False, dry_run=False))
    worker.vod.media.pop(videos[5])

    job = worker.finish(worker.start("reconcile", full=False, dry_run=False))

    assert job.counters["deleted"] == 1
    assert worker.states()[videos[5]] == "deleted"


def test_assets_that_the_listing_omits_are_not_deleted(worker: JobWorker) -> None:
    videos = worker.library(120)
    worker.finish(worker.start("backfill"))
    worker.hide_from_search(videos[5])

    job = worker.finish(worker.start("reconcile", full=True, dry_run=False))

    assert (job.counters["suspected"], job.counters.get("gone", 0)) == (1, 0)
    assert worker.states()[videos[5]] == "ok"


@pytest.mark.parametrize("full", [True, False])
def test_one_deleted_asset_is_found_beside_five_new_ones(worker: JobWorker, full: bool) -> None:
    videos = worker.library(200)
    worker.finish(worker.start("reconcile", full=False, dry_run=False))
    worker.vod.media.pop(videos[7])
    new = [f"new{number}" for number in range(5)]
    at = vod_time(worker.now)
    worker.vod.put(*(element(media_id, CreationTime=at, ModificationTime=at) for media_id in new))

    job = worker.finish(worker.start("reconcile", full=full, dry_run=False))

    assert (job.counters["missed"], job.counters["deleted"]) == (5, 1)
    assert worker.states()[videos[7]] == "deleted"
    assert all(worker.states()[media_id] == "ok" for media_id in new)


def test_deletions_are_found_in_a_listing_without_order(worker: JobWorker) -> None:
    videos = worker.library(320)
    worker.search_without_order()
    worker.finish(worker.start("backfill"))
    worker.vod.media.pop(videos[7])

    job = worker.finish(worker.start("reconcile", full=True, dry_run=False))

    assert (job.counters["suspected"], job.counters["deleted"], worker.states()[videos[7]]) == (1, 1, "deleted")


def test_assets_of_one_second_and_of_both_types_count_once(worker: JobWorker) -> None:
    at = "2025-06-01T00:00:00Z"
    worker.vod.put(*(element(f"m{number:04}", CreationTime=at, ModificationTime=at) for number in range(250)))
    search = worker.vod.search_media
    replace_method(worker.vod, "search_media", lambda _type, *rest: search("video", *rest))
    worker.finish(worker.start("backfill"))

    job = worker.finish(worker.start("reconcile", full=True, dry_run=False))

    assert (job.counters["listed"], job.counters["missed"], job.counters["suspected"]) == (250, 0, 0)


@pytest.mark.parametrize(
    "error", [VodRefusedError("not this one", code="Forbidden.IllegalStatus", status=403), VodUnavailableError("internal error")]
)
def test_a_suspect_for_which_vod_fails_does_not_block_the_others(worker: JobWorker, error: Exception) -> None:
    videos = worker.library(100)
    worker.finish(worker.start("backfill"))
    for media_id in videos[:3]:
        worker.vod.media.pop(media_id)
    fetch = worker.vod.batch_get_media_infos

    def fail_for_one(media_ids: list[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        if videos[1] in media_ids:
            raise error
        return fetch(media_ids, reference_ids)

    replace_method(worker.vod, "batch_get_media_infos", fail_for_one)

    job = worker.start("reconcile", full=True, dry_run=False)
    for _ in range(60):
        worker.turn()
        worker.now += 10 * SECOND

    states = worker.states()
    assert [states[media_id] for media_id in videos[:3]] == ["deleted", "ok", "deleted"]
    assert worker.find(job).counters["gone"] == 2


def test_an_outage_during_the_check_of_suspects_skips_none(worker: JobWorker) -> None:
    videos = worker.library(100)
    worker.finish(worker.start("backfill"))
    for media_id in videos[:3]:
        worker.vod.media.pop(media_id)
    fetch = worker.vod.batch_get_media_infos
    end_of_outage = NOON + timedelta(minutes=20)

    def fail_during_outage(media_ids: list[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        if NOON + timedelta(minutes=19) < worker.now < end_of_outage:
            raise VodUnavailableError("503")
        return fetch(media_ids, reference_ids)

    replace_method(worker.vod, "batch_get_media_infos", fail_during_outage)
    worker.now = NOON + timedelta(minutes=18, seconds=59)
    job = worker.finish(worker.start("reconcile", full=True, dry_run=False))

    assert worker.now > end_of_outage
    assert job.counters["deleted"] == 3


def test_an_answer_about_suspects_ends_the_back_off(worker: JobWorker) -> None:
    videos = worker.library(100)
    worker.finish(worker.start("backfill"))
    worker.vod.media.pop(videos[0])
    worker.store.transact(
        lambda connection: RateLimiter(connection).back_off(
            "default", BATCH_GET_MEDIA_INFOS, timedelta(0), fault="VOD throttled the call"
        )
    )

    worker.finish(worker.start("reconcile", full=True, dry_run=False))

    with worker.store.reading() as connection:
        assert RateLimiter(connection).back_offs() == []


def test_a_deleted_asset_without_a_creation_time_is_found(worker: JobWorker) -> None:
    videos = worker.library(30)
    worker.finish(worker.start("backfill"))
    with worker.store.engine.begin() as connection:
        connection.execute(update(media).where(media.c.media_id == videos[3]).values(created_at=None))
    worker.vod.media.pop(videos[3])

    job = worker.finish(worker.start("reconcile", full=True, dry_run=False))

    assert (job.counters["deleted"], worker.states()[videos[3]]) == (1, "deleted")


def test_a_mass_deletion_is_refused_unless_it_is_allowed(worker: JobWorker) -> None:
    videos = worker.library(100)
    worker.finish(worker.start("backfill"))
    for media_id in videos[:6]:
        worker.vod.media.pop(media_id)

    refused = worker.finish(worker.start("reconcile", full=True, dry_run=False))
    states = set(worker.states().values())
    allowed = worker.finish(worker.start("reconcile", full=True, dry_run=False, allow_mass_delete=True))

    assert refused.state == JobState.FAILED
    assert "6 of 100 media" in (refused.last_error or "")
    assert "--allow-mass-delete" in (refused.last_error or "")
    assert states == {"ok"}
    assert allowed.counters["deleted"] == 6


def test_a_dry_run_counts_and_changes_nothing(worker: JobWorker) -> None:
    videos = worker.library(100)
    worker.finish(worker.start("backfill"))
    worker.vod.media.pop(videos[0])
    worker.library(3, first=200)
    before = worker.rows()

    job = worker.finish(worker.start("reconcile", full=True, dry_run=True))

    assert (job.counters["missed"], job.counters["gone"], job.counters.get("deleted", 0)) == (3, 1, 0)
    assert worker.rows() == before


def test_a_deleted_asset_that_is_listed_again_is_ok(worker: JobWorker) -> None:
    videos = worker.library(100)
    worker.finish(worker.start("backfill"))
    removed = worker.vod.media.pop(videos[0])
    worker.finish(worker.start("reconcile", full=True, dry_run=False))
    worker.vod.put(removed)

    worker.finish(worker.start("reconcile", full=True, dry_run=False))

    assert worker.states()[videos[0]] == "ok"


def test_an_asset_notified_while_it_is_suspected_is_not_marked(worker: JobWorker) -> None:
    videos = worker.library(100)
    worker.finish(worker.start("backfill"))
    removed = worker.vod.media.pop(videos[0])
    job = worker.start("reconcile", full=True, dry_run=False)
    while (worker.find(job).checkpoint or {}).get("phase") != "mark":
        worker.turn()
    worker.vod.put(removed)
    notify(worker.store, videos[0], now=worker.now)
    worker.now += SECOND
    sync_batch(worker.store, source_context(worker.vod, FAST), now=worker.now, sleep=lambda seconds: None)

    worker.finish(job)

    assert worker.states()[videos[0]] == "ok"


def test_reconciliations_start_on_schedule_whichever_worker_checks(worker: JobWorker) -> None:
    def jobs_at(now: datetime) -> int:
        """Check the schedule three times at this time. Return the number of jobs."""
        worker.now = now
        for _ in range(3):
            start_due(worker.store, "default", now=now, every=timedelta(hours=6), full_every=timedelta(days=7))
        with worker.store.reading() as connection:
            return len(Jobs(connection).latest(limit=10))

    first = jobs_at(NOON)
    before = jobs_at(NOON + timedelta(hours=5, minutes=59))
    after = jobs_at(NOON + timedelta(hours=6))
    with worker.store.reading() as connection:
        (job,) = Jobs(connection).latest(limit=10)
    worker.finish(job)
    again = jobs_at(NOON + timedelta(hours=12, seconds=1))
    with worker.store.reading() as connection:
        worker.finish(Jobs(connection).latest(limit=1)[0])
    weekly = jobs_at(NOON + timedelta(days=7))
    with worker.store.reading() as connection:
        full = Jobs(connection).latest(limit=1)[0]

    assert (first, before, after, again, weekly) == (0, 0, 1, 2, 3)
    assert (job.parameters["full"], full.parameters["full"]) == (False, True)
