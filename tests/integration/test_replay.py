"""Recorded notifications handled again, on each of the three databases."""

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


def run(store: Store, **which: Any) -> Job:
    """The job at its end."""
    job, _ = store.transact(
        lambda connection: Jobs(connection).start("default", KIND, parameters(NotificationFilter(**which)), now=LATER)
    )
    kinds = {("default", KIND): Replay(store, "default")}
    while run_jobs(store, kinds, now=lambda: LATER, lease=timedelta(minutes=1), stopping=threading.Event()):
        pass
    with store.reading() as connection:
        found = Jobs(connection).find(job.id)
    assert found is not None
    assert (found.state, found.last_error) == ("done", None)
    return found


def told(store: Store, *media_ids: str, **how: Any) -> None:
    """Notified, and everything worked off since."""
    notify(store, *media_ids, **how)
    store.transact(lambda connection: connection.execute(delete(tables.sync_request)))


def requests(store: Store) -> dict[str, Any]:
    with store.reading() as connection:
        return {row.media_id: row for row in connection.execute(select(tables.sync_request))}


def test_each_medium_is_requested_as_by_the_first_delivery_but_behind_live_ones(store: Store) -> None:
    told(store, "a", "b")
    told(store, "a", event="TranscodeComplete")
    told(store, "i", event="ImageUploadComplete")

    done = run(store)

    found = requests(store)
    assert found.keys() == {"a", "b"}
    assert {(row.reason, row.priority, row.requested_at) for row in found.values()} == {("replay", MANUAL, LATER)}
    assert done.counters == {"matched": 4, "requested": 2}


def test_a_replay_counts_no_delivery_and_no_notification(store: Store) -> None:
    told(store, "a", "a")

    run(store)

    with store.reading() as connection:
        assert list(connection.execute(select(tables.notification.c.deliveries)).scalars()) == [2]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"since": NOON + SECOND}, "bc"),
        ({"until": NOON + SECOND}, "a"),
        ({"since": NOON + SECOND, "until": NOON + 2 * SECOND}, "b"),
        ({"event_type": "TranscodeComplete"}, "c"),
        ({"event_type": "NobodyKnowsThis"}, ""),
        ({"media_id": "b"}, "b"),
        ({"media_id": "b", "event_type": "TranscodeComplete"}, ""),
        ({"media_id": "%"}, ""),
    ],
    ids=str,
)
def test_what_is_meant_can_be_narrowed(store: Store, which: dict[str, Any], expected: str) -> None:
    told(store, "a")
    told(store, "b", now=NOON + SECOND)
    told(store, "c", now=NOON + 2 * SECOND, event="TranscodeComplete")

    counted = list(preview(store, "default", NotificationFilter(**which)))
    done = run(store, **which)

    assert requests(store).keys() == set(expected)
    assert done.counters == {"matched": len(expected), "requested": len(expected)}
    assert [sum(each[name] for each in counted) for name in ("matched", "requested")] == [len(expected)] * 2


def test_a_medium_is_found_wherever_a_notification_names_it(store: Store) -> None:
    told(store, "first", event="DeleteMediaComplete", MediaType="video", MediaIds="first,second,third")

    run(store, media_id="second")

    assert requests(store).keys() == {"second"}


def test_other_sources_stay_out_of_it(store: Store) -> None:
    told(store, "a", "b")
    store.transact(
        lambda connection: connection.execute(
            update(tables.notification).where(tables.notification.c.media_id == "b").values(source="other")
        )
    )

    run(store)

    assert requests(store).keys() == {"a"}


@pytest.mark.parametrize("media", [1, 3, 1000])
@pytest.mark.parametrize("window", [1, 4, 9, 10])
def test_every_notification_comes_once_whatever_the_step(
    store: Store, media: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification_log, "_LAST", notification_log._LAST.offset(window - 1))
    monkeypatch.setattr(replay, "MEDIA_PER_STEP", media)
    ids = [f"m{number}" for number in range(9)]
    told(store, *ids)

    done = run(store)

    assert requests(store).keys() == set(ids)
    assert done.counters == {"matched": 9, "requested": 9}


def test_notifications_that_come_in_meanwhile_are_not_handled_twice(store: Store) -> None:
    told(store, "a")
    job, _ = store.transact(lambda connection: Jobs(connection).start("default", KIND, {}, now=LATER))
    first = Replay(store, "default").step(job, now=LATER)
    told(store, "b")

    assert first.is_last
    assert store.transact(first.write).counters == {"matched": 1, "requested": 1}
    assert requests(store).keys() == {"a"}


def test_without_notifications_there_is_nothing_to_do(store: Store) -> None:
    assert run(store).counters == {"matched": 0, "requested": 0}
    assert list(preview(store, "default", NotificationFilter())) == [{"matched": 0, "requested": 0}]
