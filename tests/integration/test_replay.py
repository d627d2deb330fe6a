"""Replay recorded notifications, on each of the three databases."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from tests.builders import NOON, SECOND, notify
from worker.store import Store, tables
from worker.store.inbox import notification_log
from worker.store.inbox.notification_log import NotificationFilter
from worker.store.inbox.sync_requests import MANUAL
from worker.store.jobs.job_rows import Job, Jobs
from worker.sync.jobs import replay
from worker.sync.jobs.replay import KIND, Replay, parameters, preview
from worker.sync.jobs.run import run_jobs

LATER = NOON + timedelta(days=1)


def run(store: Store, **filters: Any) -> Job:
    """Run a replay to its end. Return the job."""
    job, _ = store.transact(
        lambda connection: Jobs(connection).start("default", KIND, parameters(NotificationFilter(**filters)), now=LATER)
    )
    kinds = {("default", KIND): Replay(store, "default")}
    while run_jobs(store, kinds, now=lambda: LATER, lease=timedelta(minutes=1), stopping=threading.Event()):
        pass
    with store.reading() as connection:
        stored = Jobs(connection).find(job.id)
    assert stored is not None
    assert (stored.state, stored.last_error) == ("done", None)
    return stored


def notify_and_complete(store: Store, *media_ids: str, **notification: Any) -> None:
    """Store notifications, and complete every request."""
    notify(store, *media_ids, **notification)
    store.transact(lambda connection: connection.execute(delete(tables.sync_request)))


def requests(store: Store) -> dict[str, Any]:
    with store.reading() as connection:
        return {row.media_id: row for row in connection.execute(select(tables.sync_request))}


def test_each_asset_is_requested_once_with_manual_priority(store: Store) -> None:
    notify_and_complete(store, "a", "b")
    notify_and_complete(store, "a", event="TranscodeComplete")
    notify_and_complete(store, "i", event="ImageUploadComplete")

    done = run(store)

    requested = requests(store)
    assert requested.keys() == {"a", "b"}
    assert {(row.reason, row.priority, row.requested_at) for row in requested.values()} == {("replay", MANUAL, LATER)}
    assert done.counters == {"matched": 4, "requested": 2}


def test_a_replay_counts_no_delivery_and_no_notification(store: Store) -> None:
    notify_and_complete(store, "a", "a")

    run(store)

    with store.reading() as connection:
        assert list(connection.execute(select(tables.notification.c.deliveries)).scalars()) == [2]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"since": NOON + SECOND}, "bc"),
        ({"until": NOON + SECOND}, "a"),
        ({"since": NOON + SECOND, "until": NOON + 2 * SECOND}, "b"),
        ({"event_type": "TranscodeComplete"}, "c"),
        ({"event_type": "UnknownEventType"}, ""),
        ({"media_id": "b"}, "b"),
        ({"media_id": "b", "event_type": "TranscodeComplete"}, ""),
        ({"media_id": "%"}, ""),
    ],
    ids=str,
)
def test_filters_select_the_notifications_to_replay(store: Store, filters: dict[str, Any], expected: str) -> None:
    notify_and_complete(store, "a")
    notify_and_complete(store, "b", now=NOON + SECOND)
    notify_and_complete(store, "c", now=NOON + 2 * SECOND, event="TranscodeComplete")

    counted = list(preview(store, "default", NotificationFilter(**filters)))
    done = run(store, **filters)

    assert requests(store).keys() == set(expected)
    assert done.counters == {"matched": len(expected), "requested": len(expected)}
    assert [sum(counters[name] for counters in counted) for name in ("matched", "requested")] == [len(expected)] * 2


def test_an_asset_is_found_in_a_notification_that_names_several(store: Store) -> None:
    notify_and_complete(store, "first", event="DeleteMediaComplete", MediaType="video", MediaIds="first,second,third")

    run(store, media_id="second")

    assert requests(store).keys() == {"second"}


def test_notifications_of_other_sources_are_not_replayed(store: Store) -> None:
    notify_and_complete(store, "a", "b")
    store.transact(
        lambda connection: connection.execute(
            update(tables.notification).where(tables.notification.c.media_id == "b").values(source="other")
        )
    )

    run(store)

    assert requests(store).keys() == {"a"}


@pytest.mark.parametrize("media_per_step", [1, 3, 1000])
@pytest.mark.parametrize("page_size", [1, 4, 9, 10])
def test_every_notification_is_replayed_once_with_any_step_size(
    store: Store, media_per_step: int, page_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification_log, "_LAST", notification_log._LAST.offset(page_size - 1))
    monkeypatch.setattr(replay, "MEDIA_PER_STEP", media_per_step)
    ids = [f"m{number}" for number in range(9)]
    notify_and_complete(store, *ids)

    done = run(store)

    assert requests(store).keys() == set(ids)
    assert done.counters == {"matched": 9, "requested": 9}


def test_notifications_that_arrive_meanwhile_are_not_replayed(store: Store) -> None:
    notify_and_complete(store, "a")
    job, _ = store.transact(lambda connection: Jobs(connection).start("default", KIND, {}, now=LATER))
    first = Replay(store, "default").step(job, now=LATER)
    notify_and_complete(store, "b")

    assert first.is_last
    assert store.transact(first.write).counters == {"matched": 1, "requested": 1}
    assert requests(store).keys() == {"a"}


def test_without_notifications_there_is_nothing_to_do(store: Store) -> None:
    assert run(store).counters == {"matched": 0, "requested": 0}
    assert list(preview(store, "default", NotificationFilter())) == [{"matched": 0, "requested": 0}]
