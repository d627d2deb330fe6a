"""What is old is forgotten, on each of the three databases."""

from __future__ import annotations

from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from tests.builders import NOON, SECOND, claimed, notify, request
from worker.store import Store, tables
from worker.store.inbox.history import NotificationHistory
from worker.store.inbox.sync_requests import SyncRequests
from worker.store.jobs.job_rows import Jobs, JobState
from worker.sync import retention
from worker.sync.retention import Pruner, RetentionPeriods

DAY = timedelta(days=1)
NOW = NOON + 100 * DAY
KEEP = RetentionPeriods(90 * DAY, 90 * DAY)


def settled(store: Store) -> None:
    """Everything that is due is paid."""
    claim = claimed(store, now=NOW, limit=5000)
    store.transact(lambda connection: SyncRequests(connection).complete(claim, claim.media_ids, now=NOW))


def forget(store: Store, keep: RetentionPeriods = KEEP, stopping: Event | None = None) -> None:
    Pruner(store, keep, max_run_time=60).prune(now=NOW, stopping=stopping or Event())


def left(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(connection.execute(select(tables.notification.c.media_id)).scalars())


def test_old_notifications_are_forgotten_and_young_ones_stay(store: Store) -> None:
    notify(store, "old", now=NOON + 10 * DAY - SECOND)
    notify(store, "young", now=NOON + 10 * DAY)
    settled(store)

    forget(store)

    assert left(store) == ["young"]


def test_for_ever_is_for_ever(store: Store) -> None:
    notify(store, "old")
    settled(store)

    forget(store, RetentionPeriods(None, None))

    assert left(store) == ["old"]


def test_what_vod_told_of_media_that_are_due_stays(store: Store) -> None:
    notify(store, "failed", Status="fail")
    notify(store, "deleted", event="DeleteMediaComplete", MediaType="video", DeleteType="all")
    notify(store, "dead")
    claim = claimed(store, now=NOON + SECOND)
    store.transact(lambda connection: SyncRequests(connection).dead_letter(claim, {"dead": "broken"}, now=NOON))

    forget(store)

    with store.reading() as connection:
        told = NotificationHistory(connection)
        assert told.failed_analyses("default", ["failed"]) == {"failed"}
        assert {media_id: each.at for media_id, each in told.deletions("default", ["deleted"]).items()} == {"deleted": NOON}
    assert left(store) == ["dead", "deleted", "failed"]


def test_a_request_of_another_source_keeps_nothing(store: Store) -> None:
    notify(store, "a")
    store.transact(lambda connection: connection.execute(update(tables.sync_request).values(source="other")))

    forget(store)

    assert left(store) == []


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_those_that_stay_hide_no_old_ones(store: Store, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE_SIZE", page)
    monkeypatch.setattr(retention, "PAUSE", 0)
    notify(store, "a", "b", "c", "d")
    notify(store, "e", "f")
    settled(store)
    notify(store, "a", "b", event="TranscodeComplete", now=NOON + 99 * DAY)

    forget(store)

    assert left(store) == ["a", "a", "b", "b"]


def test_one_that_came_late_from_a_spool_goes_with_its_neighbours(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE_SIZE", 1)
    notify(store, "young", now=NOON + 99 * DAY)
    notify(store, "late")
    settled(store)

    forget(store)
    meanwhile = left(store)
    Pruner(store, KEEP).prune(now=NOW + 90 * DAY, stopping=Event())

    assert (meanwhile, left(store)) == (["late", "young"], [])


def test_no_transaction_deletes_more_than_a_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE", 0)
    rows = [
        {"source": "default", "event_key": f"{number:064}", "body": "{}", "received_at": NOON, "deliveries": 1}
        for number in range(2500)
    ]
    store.transact(lambda connection: connection.execute(insert(tables.notification), rows))
    counts = []
    transact = store.transact

    def counting(work: Any) -> Any:
        done = transact(work)
        counts.append(getattr(done, "count", 0))
        return done

    monkeypatch.setattr(store, "transact", counting)
    forget(store)

    assert left(store) == []
    assert [count for count in counts if count] == [1000, 1000, 500]


def test_a_worker_that_stops_leaves_the_rest_to_others(store: Store) -> None:
    notify(store, "old")
    settled(store)
    stopping = Event()
    stopping.set()

    forget(store, stopping=stopping)

    assert left(store) == ["old"]


def test_jobs_that_are_over_are_forgotten_but_the_last_good_one_of_a_kind(store: Store) -> None:
    def ended(state: str) -> int:
        job, _ = store.transact(lambda connection: Jobs(connection).start("default", "replay", {}, now=NOON))
        claim = store.transact(lambda connection: Jobs(connection).claim(["default"], ["replay"], now=NOON, lease=SECOND))
        assert claim is not None
        store.transact(lambda connection: Jobs(connection).finish(job.id, claim[1], state=state, now=NOON))
        return job.id

    ended(JobState.DONE)
    last = ended(JobState.DONE)
    ended(JobState.CANCELLED)

    forget(store)

    with store.reading() as connection:
        assert [job.id for job in Jobs(connection).latest(limit=10)] == [last]


def looks(store: Store, pruner: Pruner, *offsets: timedelta) -> list[tuple[bool, int]]:
    """Whether it was us at each of these times, and how many notifications were left."""
    return [(pruner.prune_if_due(now=NOW + offset, stopping=Event()), len(left(store))) for offset in offsets]


def test_it_is_done_at_the_first_look_and_then_once_an_hour_by_whoever_asks_first(store: Store) -> None:
    notify(store, "old")
    settled(store)
    hour = timedelta(hours=1)
    first, second = Pruner(store, KEEP), Pruner(store, KEEP)

    begun = looks(store, first, 0 * hour) + looks(store, second, 0 * hour, hour / 2)
    notify(store, "old")
    settled(store)

    assert begun == [(True, 0), (False, 0), (False, 0)]
    assert looks(store, second, hour) + looks(store, first, hour, 1.5 * hour) == [(True, 0), (False, 0), (False, 0)]


def test_one_look_takes_seconds_and_the_next_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE_SIZE", 2)
    notify(store, "dead", "due")
    notify(store, "a", "b", "c")
    settled(store)
    request(store, "dead", "due", now=NOW)
    seconds = [number * SECOND for number in (0, 5, 15, 30, 45)]

    found = looks(store, Pruner(store, KEEP, max_run_time=0), *seconds)

    assert found == [(True, 5), (False, 5), (True, 3), (True, 2), (False, 2)]


def test_a_look_that_was_cut_short_by_a_stop_leaves_the_rest_to_the_next(store: Store) -> None:
    notify(store, "old")
    settled(store)
    stopping = Event()
    stopping.set()

    Pruner(store, KEEP).prune_if_due(now=NOW, stopping=stopping)

    assert looks(store, Pruner(store, KEEP), 15 * SECOND) == [(True, 0)]


def test_notes_of_a_job_that_is_over_are_forgotten(store: Store) -> None:
    rows = [{"job_id": 1, "media_id": f"m{number:04}"} for number in range(2_500)]
    with store.engine.begin() as connection:
        cancelled, _ = Jobs(connection).start("default", "backfill", {}, now=NOON)
        Jobs(connection).cancel(cancelled.id, now=NOON)
        running, _ = Jobs(connection).start("default", "backfill", {}, now=NOON)
        connection.execute(insert(tables.listed), [row | {"job_id": cancelled.id} for row in rows])
        connection.execute(insert(tables.listed), [row | {"job_id": running.id} for row in rows[:3]])

    forget(store)

    with store.reading() as connection:
        assert {row.job_id for row in connection.execute(select(tables.listed.c.job_id))} == {running.id}
