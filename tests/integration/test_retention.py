"""Delete what is older than the retention periods, on each of the three databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update

from tests.builders import NOON, SECOND, claimed, notify, request
from worker.store import Store, tables
from worker.store.inbox.history import NotificationHistory
from worker.store.inbox.sync_requests import SyncRequests
from worker.store.jobs.job_rows import Jobs, JobState
from worker.sync import retention
from worker.sync.retention import Pruner, RetentionPeriods

DAY = timedelta(days=1)
NOW = NOON + 100 * DAY
PERIODS = RetentionPeriods(90 * DAY, 90 * DAY)


def complete_all(store: Store) -> None:
    """Complete every due request."""
    claim = claimed(store, now=NOW, limit=5000)
    store.transact(lambda connection: SyncRequests(connection).complete(claim, claim.media_ids, now=NOW))


def prune(store: Store, periods: RetentionPeriods = PERIODS, stopping: Event | None = None) -> None:
    Pruner(store, periods, max_run_time=60).prune(now=NOW, stopping=stopping or Event())


def stored_media_ids(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(connection.execute(select(tables.notification.c.media_id)).scalars())


def test_old_notifications_are_deleted_and_recent_ones_kept(store: Store) -> None:
    notify(store, "old", now=NOON + 10 * DAY - SECOND)
    notify(store, "young", now=NOON + 10 * DAY)
    complete_all(store)

    prune(store)

    assert stored_media_ids(store) == ["young"]


def test_without_a_retention_period_nothing_is_deleted(store: Store) -> None:
    notify(store, "old")
    complete_all(store)

    prune(store, RetentionPeriods(None, None))

    assert stored_media_ids(store) == ["old"]


def test_notifications_of_assets_with_a_request_are_kept(store: Store) -> None:
    notify(store, "failed", Status="fail")
    notify(store, "deleted", event="DeleteMediaComplete", MediaType="video", DeleteType="all")
    notify(store, "dead")
    claim = claimed(store, now=NOON + SECOND)
    store.transact(lambda connection: SyncRequests(connection).dead_letter(claim, {"dead": "broken"}, now=NOON))

    prune(store)

    with store.reading() as connection:
        history = NotificationHistory(connection)
        assert history.failed_analyses("default", ["failed"]) == {"failed"}
        assert {media_id: deletion.at for media_id, deletion in history.deletions("default", ["deleted"]).items()} == {
            "deleted": NOON
        }
    assert stored_media_ids(store) == ["dead", "deleted", "failed"]


def test_a_request_of_another_source_keeps_no_notification(store: Store) -> None:
    notify(store, "a")
    store.transact(lambda connection: connection.execute(update(tables.sync_request).values(source="other")))

    prune(store)

    assert stored_media_ids(store) == []


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_kept_notifications_hide_no_old_ones(store: Store, page_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE_SIZE", page_size)
    monkeypatch.setattr(retention, "PAUSE", 0)
    notify(store, "a", "b", "c", "d")
    notify(store, "e", "f")
    complete_all(store)
    notify(store, "a", "b", event="TranscodeComplete", now=NOON + 99 * DAY)

    prune(store)

    assert stored_media_ids(store) == ["a", "a", "b", "b"]


def test_an_old_notification_that_was_stored_late_is_deleted_with_its_neighbours(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE_SIZE", 1)
    notify(store, "young", now=NOON + 99 * DAY)
    notify(store, "late")
    complete_all(store)

    prune(store)
    meanwhile = stored_media_ids(store)
    Pruner(store, PERIODS).prune(now=NOW + 90 * DAY, stopping=Event())

    assert (meanwhile, stored_media_ids(store)) == (["late", "young"], [])


def test_no_transaction_deletes_more_than_a_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE", 0)
    rows = [
        {"source": "default", "event_key": f"{number:064}", "body": "{}", "received_at": NOON, "deliveries": 1}
        for number in range(2500)
    ]
    store.transact(lambda connection: connection.execute(insert(tables.notification), rows))
    counts = []
    transact = store.transact

    def counting(work: Callable[[Connection], Any]) -> Any:
        result = transact(work)
        counts.append(getattr(result, "count", 0))
        return result

    monkeypatch.setattr(store, "transact", counting)
    prune(store)

    assert stored_media_ids(store) == []
    assert [count for count in counts if count] == [1000, 1000, 500]


def test_a_stopping_worker_deletes_nothing(store: Store) -> None:
    notify(store, "old")
    complete_all(store)
    stopping = Event()
    stopping.set()

    prune(store, stopping=stopping)

    assert stored_media_ids(store) == ["old"]


def test_finished_jobs_are_deleted_except_the_last_success_of_a_kind(store: Store) -> None:
    def finished_job(state: JobState) -> int:
        job, _ = store.transact(lambda connection: Jobs(connection).start("default", "replay", {}, now=NOON))
        claim = store.transact(lambda connection: Jobs(connection).claim(["default"], ["replay"], now=NOON, lease=SECOND))
        assert claim is not None
        store.transact(lambda connection: Jobs(connection).finish(job.id, claim[1], state=state, now=NOON))
        return job.id

    finished_job(JobState.DONE)
    last = finished_job(JobState.DONE)
    finished_job(JobState.CANCELLED)

    prune(store)

    with store.reading() as connection:
        assert [job.id for job in Jobs(connection).latest(limit=10)] == [last]


def prune_at(store: Store, pruner: Pruner, *offsets: timedelta) -> list[tuple[bool, int]]:
    """Prune if due at each of these times. Return whether it was due, and how many notifications were left."""
    return [(pruner.prune_if_due(now=NOW + offset, stopping=Event()), len(stored_media_ids(store))) for offset in offsets]


def test_one_worker_prunes_at_once_and_then_once_an_hour(store: Store) -> None:
    notify(store, "old")
    complete_all(store)
    hour = timedelta(hours=1)
    first, second = Pruner(store, PERIODS), Pruner(store, PERIODS)

    first_results = prune_at(store, first, 0 * hour) + prune_at(store, second, 0 * hour, hour / 2)
    notify(store, "old")
    complete_all(store)

    assert first_results == [(True, 0), (False, 0), (False, 0)]
    assert prune_at(store, second, hour) + prune_at(store, first, hour, 1.5 * hour) == [(True, 0), (False, 0), (False, 0)]


def test_a_run_is_limited_in_time_and_the_next_continues(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE_SIZE", 2)
    notify(store, "dead", "due")
    notify(store, "a", "b", "c")
    complete_all(store)
    request(store, "dead", "due", now=NOW)
    seconds = [number * SECOND for number in (0, 5, 15, 30, 45)]

    results = prune_at(store, Pruner(store, PERIODS, max_run_time=0), *seconds)

    assert results == [(True, 5), (False, 5), (True, 3), (True, 2), (False, 2)]


def test_a_stopped_run_leaves_the_rest_to_the_next(store: Store) -> None:
    notify(store, "old")
    complete_all(store)
    stopping = Event()
    stopping.set()

    Pruner(store, PERIODS).prune_if_due(now=NOW, stopping=stopping)

    assert prune_at(store, Pruner(store, PERIODS), 15 * SECOND) == [(True, 0)]


def test_seen_media_of_a_finished_job_are_deleted(store: Store) -> None:
    rows = [{"job_id": 1, "media_id": f"m{number:04}"} for number in range(2_500)]
    with store.engine.begin() as connection:
        cancelled, _ = Jobs(connection).start("default", "backfill", {}, now=NOON)
        Jobs(connection).cancel(cancelled.id, now=NOON)
        running, _ = Jobs(connection).start("default", "backfill", {}, now=NOON)
        connection.execute(insert(tables.listed), [row | {"job_id": cancelled.id} for row in rows])
        connection.execute(insert(tables.listed), [row | {"job_id": running.id} for row in rows[:3]])

    prune(store)

    with store.reading() as connection:
        assert {row.job_id for row in connection.execute(select(tables.listed.c.job_id))} == {running.id}
