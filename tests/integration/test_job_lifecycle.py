"""Jobs are started once, paused, resumed and cancelled, and continue after a crash or an error; on each of the three databases."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.builders import NOON, SECOND
from tests.job_worker import LEASE, JobWorker
from tests.sync_harness import replace_method
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.store import Store
from worker.store.jobs.job_rows import Jobs, JobState
from worker.sync.jobs.paging import Cursor, PageResult


@pytest.fixture
def worker(store: Store) -> JobWorker:
    return JobWorker(store)


def test_a_second_start_returns_the_running_job(worker: JobWorker) -> None:
    first = worker.start("backfill")

    second = worker.start("backfill", dry_run=True)

    assert second.id == first.id


def test_concurrent_starts_create_one_job(worker: JobWorker) -> None:
    starters = [threading.Thread(target=worker.start, args=("backfill",)) for _ in range(4)]

    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()

    with worker.store.reading() as connection:
        assert len(Jobs(connection).latest(limit=10)) == 1


def test_a_job_of_a_killed_worker_continues_after_its_last_page(worker: JobWorker) -> None:
    worker.library(320)
    job = worker.start_counted("backfill")
    worker.turn()
    worker.turn()
    # Another worker claims the job and dies.
    worker.store.transact(lambda connection: Jobs(connection).claim(["default"], ["backfill"], now=worker.now, lease=LEASE))
    worker.turn()
    listed = worker.find(job).counters["listed"]
    worker.now += LEASE

    job = worker.finish(job)

    assert listed == 200
    assert job.counters["listed"] == job.counters["fetched"] == 320
    assert worker.searches() == 2 + 4 + 1 + 2


def test_a_worker_that_lost_its_job_writes_nothing(worker: JobWorker) -> None:
    worker.library(320)
    job = worker.start_counted("backfill")
    worker.turn()

    def pause() -> None:
        worker.store.transact(lambda connection: Jobs(connection).pause(job.id, now=worker.now))

    worker.during_search(pause)
    worker.turn()

    paused = worker.find(job)
    assert (paused.state, paused.counters["listed"], len(worker.states())) == (JobState.PAUSED, 100, 100)


def test_a_job_can_be_paused_resumed_and_cancelled(worker: JobWorker) -> None:
    worker.library(320)
    job = worker.start_counted("backfill")
    worker.turn()

    def change(method: Callable[..., bool]) -> bool:
        return worker.store.transact(lambda connection: method(Jobs(connection), job.id, now=worker.now))

    paused = change(Jobs.pause), change(Jobs.pause)
    worker.turn()
    while_paused = worker.find(job)
    resumed = change(Jobs.resume), change(Jobs.resume)
    worker.turn()
    running = worker.find(job)
    cancelled = change(Jobs.cancel), change(Jobs.cancel)
    worker.turn()

    assert (paused, resumed, cancelled) == ((True, False), (True, False), (True, False))
    assert (while_paused.state, while_paused.counters["listed"]) == (JobState.PAUSED, 100)
    assert (running.state, running.counters["listed"]) == (JobState.RUNNING, 200)
    assert (worker.find(job).state, worker.find(job).counters["listed"]) == (JobState.CANCELLED, 200)
    assert worker.start("backfill").id != job.id


@pytest.mark.parametrize(
    "error", [VodUnavailableError("503"), VodThrottledError("slow", code="Throttling.User"), VodCredentialsError("no right")]
)
def test_a_failed_search_is_repeated_from_the_same_page(worker: JobWorker, error: VodError) -> None:
    worker.library(150)
    job = worker.start_counted("backfill")
    worker.turn()
    worker.vod.fail(error)
    worker.turn()
    error_between = worker.find(job).last_error
    with worker.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE vod_quota SET next_at_us = 0")

    job = worker.finish(job)

    assert error_between == str(error)
    assert (job.state, job.counters["fetched"], job.last_error) == (JobState.DONE, 150, None)


@pytest.mark.parametrize("answer", [{}, {"RequestId": "R", "MediaList": None}, {"MediaList": "none"}])
def test_an_answer_without_a_listing_does_not_end_the_job(worker: JobWorker, answer: dict[str, Any]) -> None:
    worker.library(150)
    job = worker.start_counted("backfill")
    worker.turn()
    search = worker.vod.search_media
    replace_method(worker.vod, "search_media", lambda *_, **__: answer)
    worker.turn()
    error_between = worker.find(job).last_error
    replace_method(worker.vod, "search_media", search)

    job = worker.finish(job)

    assert error_between == "SearchMedia answered without a MediaList and a Total"
    assert (job.state, job.counters["fetched"]) == (JobState.DONE, 150)


def test_an_expired_token_restarts_its_window(worker: JobWorker) -> None:
    cursor = Cursor(low=NOON - timedelta(days=1), high=NOON, page=61, scrolling=True, token="old")
    worker.vod.fail(VodRefusedError("too old", code="InvalidScrollToken.Expired", status=400))

    result = worker.listing.page("video", cursor)

    assert isinstance(result, PageResult)
    assert result.rows == ()
    assert (result.cursor.page, result.cursor.token, result.cursor.scrolling, result.cursor.restarts) == (1, None, True, 1)


def test_a_refused_search_fails_the_job_with_its_reason(worker: JobWorker) -> None:
    worker.vod.fail(VodRefusedError("the filter is wrong", code="ErrorMatchSyntax", status=400))

    job = worker.finish(worker.start("backfill"))

    assert (job.state, job.last_error) == (JobState.FAILED, "the filter is wrong")


def test_a_step_that_the_database_refuses_is_reported_and_repeated(worker: JobWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.library(30)
    job = worker.start_counted("backfill")
    monkeypatch.setattr("worker.store.jobs.seen_media.SeenMedia.add", lambda *_: 1 / 0)
    worker.turn()
    error_between = worker.find(job).last_error
    monkeypatch.undo()

    assert error_between is not None
    assert re.match(r"ZeroDivisionError: division by zero \(in test_\w+\.py:\d+\); this is a bug in vodsync", error_between)
    assert worker.finish(job).counters["fetched"] == 30


def test_finished_jobs_are_deleted_except_the_last_success(worker: JobWorker) -> None:
    for _ in range(3):
        worker.finish(worker.start("backfill"))

    deleted = worker.store.transact(lambda connection: Jobs(connection).prune(before=worker.now + SECOND, limit=1000))

    with worker.store.reading() as connection:
        assert (deleted, len(Jobs(connection).latest(limit=10))) == (2, 1)
