"""Backfill and reconciliation on each of the three databases, step by step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.builders import NOON, SECOND, element, notify, source_context
from worker.core.errors import VodCredentialsError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.store import Store
from worker.store.inbox.sync_requests import LIVE
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.store.tables import media, suspect, sync_request
from worker.sync.batch import sync_batch
from worker.sync.jobs.backfill import Backfill
from worker.sync.jobs.listing import Listing
from worker.sync.jobs.paging import Cursor, PageResult
from worker.sync.jobs.reconcile import Reconcile
from worker.sync.jobs.run import run_jobs
from worker.sync.jobs.schedule import start_due
from worker.sync.source_context import SyncSettings
from worker.vod.testing import FakeVod

FAST = SyncSettings(calls_per_second=10_000)
LEASE = timedelta(seconds=60)


class Heartbeats:
    """One worker, which takes turns between jobs and batches; its clock moves a second with each turn."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.vod = FakeVod()
        self.now = NOON
        listing = Listing(store, self.vod, "default", "default", 10_000, sleep=lambda seconds: None)
        self.kinds: dict[tuple[str, str], Any] = {
            ("default", "backfill"): Backfill(listing),
            ("default", "reconcile"): Reconcile(listing, FAST, most_deleted_percent=5),
        }

    def library(self, count: int, *, first: int = 0, prefix: str = "m") -> list[str]:
        """More media at VOD, one a minute."""
        media_ids = [f"{prefix}{index:05}" for index in range(first, first + count)]
        for index, media_id in enumerate(media_ids, first):
            created = f"{NOON - timedelta(days=300) + timedelta(minutes=index):%Y-%m-%dT%H:%M:%SZ}"
            self.vod.put(element(media_id, CreationTime=created, ModificationTime=created))
        return media_ids

    def start(self, kind: str, **parameters: Any) -> Job:
        job, _ = self.store.transact(lambda connection: Jobs(connection).start("default", kind, parameters, now=self.now))
        return job

    def counted(self, kind: str) -> Job:
        """A job that has asked for the totals, and for no page yet."""
        job = self.start(kind)
        for _ in range(2):
            run_jobs(self.store, self.kinds, now=lambda: self.now, lease=LEASE, stopping=threading.Event(), longest=timedelta(0))
        return self.find(job)

    def turn(self) -> None:
        """One step of a job, then all batches that are due."""
        run_jobs(self.store, self.kinds, now=lambda: self.now, lease=LEASE, stopping=threading.Event(), longest=timedelta(0))
        self.now += SECOND
        while sync_batch(self.store, source_context(self.vod, FAST), now=self.now, sleep=lambda seconds: None).claimed:
            self.now += SECOND

    def finish(self, job: Job, *, within: int = 400) -> Job:
        for _ in range(within):
            self.turn()
            job = self.find(job)
            if job.state != JobState.RUNNING:
                return job
        raise AssertionError(f"not over after {within} turns: {job}")

    def find(self, job: Job) -> Job:
        found = self.store.transact(lambda connection: Jobs(connection).find(job.id))
        assert found is not None
        return found

    def states(self) -> dict[str, str]:
        with self.store.reading() as connection:
            return {row.media_id: row.state for row in connection.execute(select(media.c.media_id, media.c.state))}

    def searches(self) -> int:
        return sum(call[0] in ("video", "audio") for call in self.vod.calls)


@pytest.fixture
def workers(store: Store) -> Heartbeats:
    return Heartbeats(store)


def test_backfill_brings_everything_once(workers: Heartbeats) -> None:
    videos, audios = workers.library(320), workers.library(30, prefix="audio")

    job = workers.finish(workers.start("backfill"))

    assert job.state == JobState.DONE
    assert workers.states() == dict.fromkeys([*videos, *audios], "ok")
    assert job.counters == {"total": 350, "listed": 350, "requested": 350, "known": 0, "fetched": 350}
    # The totals, the pages, and for each type a look at what came since the start.
    assert workers.searches() == 2 + 4 + 1 + 2


def test_backfill_asks_again_only_for_what_is_missing_or_changed(workers: Heartbeats) -> None:
    videos = workers.library(30)
    workers.finish(workers.start("backfill"))
    workers.vod.put(element(videos[3], Title="new", CreationTime="2025-06-01T00:00:00Z", ModificationTime="2026-02-01T00:00:00Z"))
    workers.library(5, first=40)

    job = workers.finish(workers.start("backfill"))

    assert job.counters["requested"] == 6
    assert job.counters["known"] == 29


@pytest.mark.parametrize(
    ("kind", "parameters", "counter"),
    [
        ("backfill", {}, "requested"),
        ("reconcile", {"full": False, "dry_run": False}, "changed"),
        ("reconcile", {"full": True, "dry_run": False}, "changed"),
    ],
)
def test_a_followed_medium_that_changed_is_asked_for_at_once(
    workers: Heartbeats, kind: str, parameters: dict[str, bool], counter: str
) -> None:
    videos = workers.library(3)
    at_work = {"Status": "Transcoding", "CreationTime": "2025-06-01T00:00:00Z"}
    workers.vod.put(element("at-work", ModificationTime="2025-06-01T00:00:00Z", **at_work))
    workers.vod.put(element("still-at-work", ModificationTime="2025-06-01T00:00:00Z", **at_work))
    workers.finish(workers.start("reconcile", full=True, dry_run=False))
    workers.vod.put(element("at-work", CreationTime="2025-06-01T00:00:00Z", ModificationTime=f"{workers.now:%Y-%m-%dT%H:%M:%SZ}"))

    job = workers.finish(workers.start(kind, **parameters))

    assert job.counters[counter] == 1
    with workers.store.reading() as connection:
        owed = connection.execute(select(sync_request.c.media_id)).scalars().all()
        statuses = dict(connection.execute(select(media.c.media_id, media.c.status)).all())
    assert owed == ["still-at-work"]
    assert statuses == {"at-work": "Normal", "still-at-work": "Transcoding"} | dict.fromkeys(videos, "Normal")


def test_backfill_keeps_to_times_statuses_and_types(workers: Heartbeats) -> None:
    workers.library(30), workers.library(10, prefix="audio")
    since = (NOON - timedelta(days=300) + timedelta(minutes=5)).isoformat()
    until = (NOON - timedelta(days=300) + timedelta(minutes=8)).isoformat()

    workers.finish(workers.start("backfill", since=since, until=until, type=["video"]))
    blocked = workers.finish(workers.start("backfill", status=["Blocked"]))
    dry = workers.finish(workers.start("backfill", dry_run=True))

    assert sorted(workers.states()) == ["m00005", "m00006", "m00007", "m00008"]
    assert blocked.counters["listed"] == 0
    assert (dry.counters["listed"], dry.counters["requested"]) == (40, 36)


def test_a_second_start_finds_the_one_that_runs(workers: Heartbeats) -> None:
    first = workers.start("backfill")

    second = workers.start("backfill", dry_run=True)

    assert second.id == first.id


def test_starts_at_the_same_moment_make_one_job(workers: Heartbeats) -> None:
    starters = [threading.Thread(target=workers.start, args=("backfill",)) for _ in range(4)]

    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()

    with workers.store.reading() as connection:
        assert len(Jobs(connection).latest(limit=10)) == 1


def test_a_job_whose_worker_died_goes_on_after_its_last_page(workers: Heartbeats) -> None:
    workers.library(320)
    job = workers.counted("backfill")
    workers.turn()
    workers.turn()
    # Somebody claims it and is never heard of again.
    workers.store.transact(lambda connection: Jobs(connection).claim(["default"], ["backfill"], now=workers.now, lease=LEASE))
    workers.turn()
    listed = workers.find(job).counters["listed"]
    workers.now += LEASE

    job = workers.finish(job)

    assert listed == 200
    assert job.counters["listed"] == job.counters["fetched"] == 320
    assert workers.searches() == 2 + 4 + 1 + 2


def test_a_worker_that_lost_its_job_writes_nothing_more(workers: Heartbeats) -> None:
    workers.library(320)
    job = workers.counted("backfill")
    workers.turn()

    def lose() -> None:
        workers.store.transact(lambda connection: Jobs(connection).pause(job.id, now=workers.now))

    _during_search(workers.vod, lose)
    workers.turn()

    paused = workers.find(job)
    assert (paused.state, paused.counters["listed"], len(workers.states())) == (JobState.PAUSED, 100, 100)


def test_paused_jobs_rest_resumed_ones_go_on_and_cancelled_ones_are_over(workers: Heartbeats) -> None:
    workers.library(320)
    job = workers.counted("backfill")
    workers.turn()

    def change(how: Callable[..., bool]) -> bool:
        return workers.store.transact(lambda connection: how(Jobs(connection), job.id, now=workers.now))

    paused = change(Jobs.pause), change(Jobs.pause)
    workers.turn()
    resting = workers.find(job)
    resumed = change(Jobs.resume), change(Jobs.resume)
    workers.turn()
    going = workers.find(job)
    cancelled = change(Jobs.cancel), change(Jobs.cancel)
    workers.turn()

    assert (paused, resumed, cancelled) == ((True, False), (True, False), (True, False))
    assert (resting.state, resting.counters["listed"]) == (JobState.PAUSED, 100)
    assert (going.state, going.counters["listed"]) == (JobState.RUNNING, 200)
    assert (workers.find(job).state, workers.find(job).counters["listed"]) == (JobState.CANCELLED, 200)
    assert workers.start("backfill").id != job.id


@pytest.mark.parametrize(
    "error", [VodUnavailableError("away"), VodThrottledError("slow", code="Throttling.User"), VodCredentialsError("no right")]
)
def test_a_failing_search_is_asked_again_from_the_same_page(workers: Heartbeats, error: Exception) -> None:
    workers.library(150)
    job = workers.counted("backfill")
    workers.turn()
    workers.vod.fail(error)  # type: ignore[arg-type]
    workers.turn()
    said = workers.find(job).last_error
    with workers.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE vod_quota SET next_at_us = 0")

    job = workers.finish(job)

    assert said == str(error)
    assert (job.state, job.counters["fetched"], job.last_error) == (JobState.DONE, 150, None)


@pytest.mark.parametrize("answer", [{}, {"RequestId": "R", "MediaList": None}, {"MediaList": "none"}])
def test_an_answer_that_is_no_listing_does_not_end_the_walk(workers: Heartbeats, answer: dict[str, Any]) -> None:
    workers.library(150)
    job = workers.counted("backfill")
    workers.turn()
    search = workers.vod.search_media
    workers.vod.search_media = lambda *_, **__: answer  # type: ignore[method-assign]
    workers.turn()
    said = workers.find(job).last_error
    workers.vod.search_media = search  # type: ignore[method-assign]

    job = workers.finish(job)

    assert said == "SearchMedia answered without a MediaList and a Total"
    assert (job.state, job.counters["fetched"]) == (JobState.DONE, 150)


def test_a_token_that_has_expired_begins_its_window_again(workers: Heartbeats) -> None:
    listing = Listing(workers.store, workers.vod, "default", "default", 10_000, sleep=lambda seconds: None)
    position = Cursor(low=NOON - timedelta(days=1), high=NOON, page=61, scrolling=True, token="old")
    workers.vod.fail(VodRefusedError("too old", code="InvalidScrollToken.Expired", status=400))

    seen = listing.page("video", position)

    assert isinstance(seen, PageResult)
    assert seen.rows == ()
    assert (seen.cursor.page, seen.cursor.token, seen.cursor.scrolling, seen.cursor.restarts) == (1, None, True, 1)


def test_a_refused_search_fails_the_job_and_says_why(workers: Heartbeats) -> None:
    workers.vod.fail(VodRefusedError("the filter is wrong", code="ErrorMatchSyntax", status=400))

    job = workers.finish(workers.start("backfill"))

    assert (job.state, job.last_error) == (JobState.FAILED, "the filter is wrong")


def test_live_notifications_go_first_and_backfill_fills_their_batch(workers: Heartbeats) -> None:
    videos = workers.library(60)
    job = workers.counted("backfill")
    run_jobs(workers.store, workers.kinds, now=lambda: NOON, lease=LEASE, stopping=threading.Event(), longest=timedelta(0))
    notify(workers.store, videos[50], now=NOON + SECOND)

    sync_batch(workers.store, source_context(workers.vod, FAST), now=NOON + 3 * SECOND, sleep=lambda seconds: None)

    assert videos[50] in workers.vod.calls[-1]
    assert len(workers.vod.calls[-1]) == 20
    assert workers.finish(job).counters["fetched"] == 60


def test_a_backfill_rests_while_enough_is_waiting(workers: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sync.jobs.listing.MAX_UNFETCHED", 150)
    workers.library(500)
    job = workers.start("backfill")
    most = 0
    for _ in range(10):
        run_jobs(workers.store, workers.kinds, now=lambda: workers.now, lease=LEASE, stopping=threading.Event())
        workers.now += SECOND
        with workers.store.reading() as connection:
            most = max(most, len(connection.execute(select(sync_request.c.media_id)).all()))

    assert most == 200
    assert workers.finish(job).counters["fetched"] == 500


# Reconciliation


def test_reconciliation_finds_what_is_missed_changed_and_gone(workers: Heartbeats) -> None:
    videos, audios = workers.library(320), workers.library(30, prefix="audio")
    workers.finish(workers.start("backfill"))
    workers.vod.media.pop(videos[7])
    workers.vod.media.pop(audios[29])
    workers.vod.put(element(videos[9], Title="new", CreationTime="2025-06-01T00:00:00Z", ModificationTime="2026-02-01T00:00:00Z"))
    appeared = workers.library(5, first=400)

    job = workers.finish(workers.start("reconcile", full=True, dry_run=False))

    states = workers.states()
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
    with workers.store.reading() as connection:
        assert connection.execute(select(suspect)).all() == []


def test_an_unchanged_library_costs_its_pages_and_writes_no_media(workers: Heartbeats) -> None:
    workers.library(510)
    workers.finish(workers.start("backfill"))
    before, searches = _rows(workers), workers.searches()

    job = workers.finish(workers.start("reconcile", full=True, dry_run=False))

    assert (job.counters["missed"], job.counters["changed"], job.counters.get("suspected", 0)) == (0, 0, 0)
    assert _rows(workers) == before
    assert workers.searches() - searches == 2 + 6 + 1 + 2


def test_after_a_success_only_what_changed_since_is_listed(workers: Heartbeats) -> None:
    videos = workers.library(510)
    workers.finish(workers.start("reconcile", full=False, dry_run=False))
    changed = f"{workers.now:%Y-%m-%dT%H:%M:%SZ}"
    workers.vod.put(element(videos[9], Title="new", CreationTime="2025-06-01T00:00:00Z", ModificationTime=changed))
    searches = workers.searches()

    job = workers.finish(workers.start("reconcile", full=False, dry_run=False))

    assert (job.counters["listed"], job.counters["changed"], job.counters["fetched"]) == (1, 1, 1)
    # Two pages of each type, and its count.
    assert workers.searches() - searches == 6


def test_an_incremental_run_that_counts_fewer_media_than_we_hold_looks_at_all_of_them(workers: Heartbeats) -> None:
    videos = workers.library(120)
    workers.finish(workers.start("reconcile", full=False, dry_run=False))
    workers.vod.media.pop(videos[5])

    job = workers.finish(workers.start("reconcile", full=False, dry_run=False))

    assert job.counters["deleted"] == 1
    assert workers.states()[videos[5]] == "deleted"


def test_media_that_the_listing_passes_over_are_not_deleted(workers: Heartbeats) -> None:
    videos = workers.library(120)
    workers.finish(workers.start("backfill"))
    _hide_from_search(workers.vod, videos[5])

    job = workers.finish(workers.start("reconcile", full=True, dry_run=False))

    assert (job.counters["suspected"], job.counters.get("gone", 0)) == (1, 0)
    assert workers.states()[videos[5]] == "ok"


def _shuffled(vod: FakeVod) -> None:
    """SearchMedia that pays no regard to the order it is asked for."""
    search = vod.search_media

    def shuffled(search_type: str, match: str, _sort_by: str, page: int, token: str | None = None) -> dict[str, Any]:
        return search(search_type, match, "MediaId:Asc", page, token)

    vod.search_media = shuffled  # type: ignore[method-assign]


@pytest.mark.parametrize("full", [True, False])
def test_one_vanished_medium_is_found_beside_five_new_ones(workers: Heartbeats, full: bool) -> None:
    videos = workers.library(200)
    workers.finish(workers.start("reconcile", full=False, dry_run=False))
    workers.vod.media.pop(videos[7])
    new = [f"new{number}" for number in range(5)]
    at = f"{workers.now:%Y-%m-%dT%H:%M:%SZ}"
    workers.vod.put(*(element(media_id, CreationTime=at, ModificationTime=at) for media_id in new))

    job = workers.finish(workers.start("reconcile", full=full, dry_run=False))

    assert (job.counters["missed"], job.counters["deleted"]) == (5, 1)
    assert workers.states()[videos[7]] == "deleted"
    assert all(workers.states()[media_id] == "ok" for media_id in new)


def test_deletions_are_found_in_a_listing_without_order(workers: Heartbeats) -> None:
    videos = workers.library(320)
    _shuffled(workers.vod)
    workers.finish(workers.start("backfill"))
    workers.vod.media.pop(videos[7])

    job = workers.finish(workers.start("reconcile", full=True, dry_run=False))

    assert (job.counters["suspected"], job.counters["deleted"], workers.states()[videos[7]]) == (1, 1, "deleted")


def test_media_of_one_second_and_of_both_types_count_once(workers: Heartbeats) -> None:
    at = "2025-06-01T00:00:00Z"
    workers.vod.put(*(element(f"m{number:04}", CreationTime=at, ModificationTime=at) for number in range(250)))
    search = workers.vod.search_media
    workers.vod.search_media = lambda _type, *rest: search("video", *rest)  # type: ignore[method-assign]
    workers.finish(workers.start("backfill"))

    job = workers.finish(workers.start("reconcile", full=True, dry_run=False))

    assert (job.counters["listed"], job.counters["missed"], job.counters["suspected"]) == (250, 0, 0)


@pytest.mark.parametrize(
    "error", [VodRefusedError("not this one", code="Forbidden.IllegalStatus", status=403), VodUnavailableError("internal error")]
)
def test_a_suspect_at_which_vod_fails_keeps_nobody_else(workers: Heartbeats, error: Exception) -> None:
    videos = workers.library(100)
    workers.finish(workers.start("backfill"))
    for media_id in videos[:3]:
        workers.vod.media.pop(media_id)
    fetch = workers.vod.batch_get_media_infos

    def refusing(media_ids: list[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        if videos[1] in media_ids:
            raise error
        return fetch(media_ids, reference_ids)

    workers.vod.batch_get_media_infos = refusing  # type: ignore[method-assign,assignment]

    job = workers.start("reconcile", full=True, dry_run=False)
    for _ in range(60):
        workers.turn()
        workers.now += 10 * SECOND

    states = workers.states()
    assert [states[media_id] for media_id in videos[:3]] == ["deleted", "ok", "deleted"]
    assert workers.find(job).counters["gone"] == 2


def test_an_outage_in_which_suspects_are_asked_for_leaves_none_out(workers: Heartbeats) -> None:
    videos = workers.library(100)
    workers.finish(workers.start("backfill"))
    for media_id in videos[:3]:
        workers.vod.media.pop(media_id)
    fetch = workers.vod.batch_get_media_infos
    until = NOON + timedelta(minutes=20)

    def away(media_ids: list[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        if NOON + timedelta(minutes=19) < workers.now < until:
            raise VodUnavailableError("away")
        return fetch(media_ids, reference_ids)

    workers.vod.batch_get_media_infos = away  # type: ignore[method-assign,assignment]
    workers.now = NOON + timedelta(minutes=18, seconds=59)
    job = workers.finish(workers.start("reconcile", full=True, dry_run=False))

    assert workers.now > until
    assert job.counters["deleted"] == 3


def test_an_answered_call_for_suspects_ends_what_throttling_began(workers: Heartbeats) -> None:
    videos = workers.library(100)
    workers.finish(workers.start("backfill"))
    workers.vod.media.pop(videos[0])
    workers.store.transact(
        lambda connection: RateLimiter(connection).back_off(
            "default", BATCH_GET_MEDIA_INFOS, timedelta(0), fault="VOD throttled the call"
        )
    )

    workers.finish(workers.start("reconcile", full=True, dry_run=False))

    with workers.store.reading() as connection:
        assert RateLimiter(connection).back_offs() == []


def test_where_a_step_requests_media_others_are_rung_for(workers: Heartbeats) -> None:
    workers.library(150)
    rung: list[bool] = []
    workers.counted("backfill")

    for _ in range(4):
        run_jobs(
            workers.store,
            workers.kinds,
            now=lambda: workers.now,
            lease=LEASE,
            stopping=threading.Event(),
            longest=timedelta(0),
            wake_workers=lambda: rung.append(True),
        )

    # The two pages with something on them.
    assert len(rung) == 2


def test_a_medium_without_a_time_of_creation_can_be_found_gone(workers: Heartbeats) -> None:
    videos = workers.library(30)
    workers.finish(workers.start("backfill"))
    with workers.store.engine.begin() as connection:
        connection.execute(update(media).where(media.c.media_id == videos[3]).values(created_at=None))
    workers.vod.media.pop(videos[3])

    job = workers.finish(workers.start("reconcile", full=True, dry_run=False))

    assert (job.counters["deleted"], workers.states()[videos[3]]) == (1, "deleted")


def test_dead_letters_are_not_counted_as_fetched(workers: Heartbeats) -> None:
    workers.library(30)
    error = VodRefusedError("no", code="InvalidParameter", status=400)

    def refuse(_media_ids: list[str], _reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        raise error

    workers.vod.batch_get_media_infos = refuse  # type: ignore[method-assign,assignment]

    job = workers.finish(workers.start("backfill"))

    assert (job.state, job.counters["requested"], job.counters["fetched"], job.counters["dead"]) == (JobState.DONE, 30, 0, 30)


def test_a_step_that_the_database_does_not_take_says_so(workers: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    workers.library(30)
    job = workers.counted("backfill")
    monkeypatch.setattr("worker.store.jobs.seen_media.SeenMedia.add", lambda *_: 1 / 0)
    workers.turn()
    said = workers.find(job).last_error
    monkeypatch.undo()

    assert said == "ZeroDivisionError: division by zero"
    assert workers.finish(job).counters["fetched"] == 30


def test_mass_deletion_is_refused_until_somebody_says_so(workers: Heartbeats) -> None:
    videos = workers.library(100)
    workers.finish(workers.start("backfill"))
    for media_id in videos[:6]:
        workers.vod.media.pop(media_id)

    refused = workers.finish(workers.start("reconcile", full=True, dry_run=False))
    states = set(workers.states().values())
    allowed = workers.finish(workers.start("reconcile", full=True, dry_run=False, allow_mass_delete=True))

    assert refused.state == JobState.FAILED
    assert "6 of 100 media" in (refused.last_error or "")
    assert "--allow-mass-delete" in (refused.last_error or "")
    assert states == {"ok"}
    assert allowed.counters["deleted"] == 6


def test_a_dry_run_counts_and_changes_nothing(workers: Heartbeats) -> None:
    videos = workers.library(100)
    workers.finish(workers.start("backfill"))
    workers.vod.media.pop(videos[0])
    workers.library(3, first=200)
    before = _rows(workers)

    job = workers.finish(workers.start("reconcile", full=True, dry_run=True))

    assert (job.counters["missed"], job.counters["gone"], job.counters.get("deleted", 0)) == (3, 1, 0)
    assert _rows(workers) == before


def test_what_was_deleted_and_is_listed_again_is_revived(workers: Heartbeats) -> None:
    videos = workers.library(100)
    workers.finish(workers.start("backfill"))
    kept = workers.vod.media.pop(videos[0])
    workers.finish(workers.start("reconcile", full=True, dry_run=False))
    workers.vod.put(kept)

    workers.finish(workers.start("reconcile", full=True, dry_run=False))

    assert workers.states()[videos[0]] == "ok"


def test_a_medium_notified_while_it_is_suspected_is_not_marked(workers: Heartbeats) -> None:
    videos = workers.library(100)
    workers.finish(workers.start("backfill"))
    kept = workers.vod.media.pop(videos[0])
    job = workers.start("reconcile", full=True, dry_run=False)
    while (workers.find(job).checkpoint or {}).get("phase") != "mark":
        workers.turn()
    workers.vod.put(kept)
    notify(workers.store, videos[0], now=workers.now)
    workers.now += SECOND
    sync_batch(workers.store, source_context(workers.vod, FAST), now=workers.now, sleep=lambda seconds: None)

    workers.finish(job)

    assert workers.states()[videos[0]] == "ok"


def test_reconciliation_starts_by_the_clock_whoever_asks(workers: Heartbeats) -> None:
    def ask(now: datetime) -> int:
        workers.now = now
        for _ in range(3):
            start_due(workers.store, "default", now=now, every=timedelta(hours=6), full_every=timedelta(days=7))
        with workers.store.reading() as connection:
            return len(Jobs(connection).latest(limit=10))

    first = ask(NOON)
    before = ask(NOON + timedelta(hours=5, minutes=59))
    after = ask(NOON + timedelta(hours=6))
    with workers.store.reading() as connection:
        (job,) = Jobs(connection).latest(limit=10)
    workers.finish(job)
    again = ask(NOON + timedelta(hours=12, seconds=1))
    with workers.store.reading() as connection:
        workers.finish(Jobs(connection).latest(limit=1)[0])
    weekly = ask(NOON + timedelta(days=7))
    with workers.store.reading() as connection:
        full = Jobs(connection).latest(limit=1)[0]

    assert (first, before, after, again, weekly) == (0, 0, 1, 2, 3)
    assert (job.parameters["full"], full.parameters["full"]) == (False, True)


def test_finished_jobs_are_forgotten_but_not_the_last_success(workers: Heartbeats) -> None:
    for _ in range(3):
        workers.finish(workers.start("backfill"))

    forgotten = workers.store.transact(lambda connection: Jobs(connection).prune(before=workers.now + SECOND, limit=1000))

    with workers.store.reading() as connection:
        assert (forgotten, len(Jobs(connection).latest(limit=10))) == (2, 1)


def test_a_live_request_stays_live_when_backfill_finds_the_same_medium(workers: Heartbeats) -> None:
    videos = workers.library(10)
    notify(workers.store, videos[0])
    workers.start("backfill")
    run_jobs(workers.store, workers.kinds, now=lambda: NOON, lease=LEASE, stopping=threading.Event(), longest=timedelta(0))

    with workers.store.reading() as connection:
        found = connection.execute(
            select(sync_request.c.priority, sync_request.c.generation).where(sync_request.c.media_id == videos[0])
        )
        assert found.one() == (LIVE, 1)


def _rows(workers: Heartbeats) -> list[Any]:
    with workers.store.reading() as connection:
        return sorted(map(tuple, connection.execute(select(media.c.media_id, media.c.state, media.c.observed_at))))


def _during_search(vod: FakeVod, act: Callable[[], None]) -> None:
    search = vod.search_media

    def interrupted(*arguments: Any) -> dict[str, Any]:
        act()
        return search(*arguments)

    vod.search_media = interrupted  # type: ignore[method-assign]


def _hide_from_search(vod: FakeVod, media_id: str) -> None:
    search = vod.search_media

    def without(*arguments: Any) -> dict[str, Any]:
        hidden = vod.media.pop(media_id)
        answer = search(*arguments)
        vod.media[media_id] = hidden
        return answer

    vod.search_media = without  # type: ignore[method-assign]
