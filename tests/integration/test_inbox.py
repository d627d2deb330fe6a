"""Notifications and sync requests, on each of the three databases."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from tests.builders import NOON, SECOND, claim, claimed, notify, request
from worker.core.wait import Wait
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Claim, Retry, SyncRequests
from worker.store.tables import notification, sync_request


def rows(store: Store) -> dict[str, Any]:
    with store.reading() as connection:
        return {row.media_id: row for row in connection.execute(select(sync_request))}


def test_a_notification_is_stored_with_its_sync_request(store: Store) -> None:
    new = notify(store, "a")

    with store.reading() as connection:
        stored = connection.execute(select(notification)).one()
    due = rows(store)["a"]
    assert new == 1
    assert (stored.source, stored.media_id, stored.event_type, stored.status) == (
        "default",
        "a",
        "VideoAnalysisComplete",
        "success",
    )
    assert (stored.event_time, stored.received_at, stored.deliveries) == (NOON, NOON, 1)
    assert (due.reason, due.priority, due.generation, due.state, due.available_at) == (
        "VideoAnalysisComplete",
        LIVE,
        1,
        "due",
        NOON,
    )


def test_a_repeated_delivery_is_counted_and_requests_nothing(store: Store) -> None:
    notify(store, "a")
    batch = claimed(store)
    store.transact(lambda connection: SyncRequests(connection).complete(batch, ["a"], now=NOON))

    new = notify(store, "a", now=NOON + 5 * SECOND)

    with store.reading() as connection:
        stored = connection.execute(select(notification)).one()
    assert new == 0
    assert (stored.deliveries, stored.received_at) == (2, NOON)
    assert rows(store) == {}


def test_the_same_notification_twice_in_one_commit_is_one_row(store: Store) -> None:
    notify(store, "a", "a", "b")

    with store.reading() as connection:
        stored = connection.execute(
            select(notification.c.media_id, notification.c.deliveries).order_by(notification.c.media_id)
        ).all()
    assert stored == [("a", 2), ("b", 1)]


def test_many_notifications_of_one_asset_are_one_request(store: Store) -> None:
    for number in range(6):
        notify(store, "a", event=f"Event{number}")

    due = rows(store)["a"]
    assert (due.generation, due.requested_at, due.available_at) == (6, NOON, NOON)


def test_a_claim_waits_until_the_linger_time_has_passed(store: Store) -> None:
    request(store, "a")

    early = claim(store, now=NOON + timedelta(milliseconds=100))
    late = claim(store, now=NOON + timedelta(milliseconds=250))

    assert early == Wait(timedelta(milliseconds=150))
    assert isinstance(late, Claim)
    assert late.media_ids == ["a"]


def test_a_full_batch_is_claimed_before_the_linger_time_has_passed(store: Store) -> None:
    request(store, *(f"m{number:02}" for number in range(25)))

    batch = claimed(store, now=NOON + timedelta(milliseconds=50))

    assert len(batch.requests) == 20


def test_requests_younger_than_the_linger_time_are_not_claimed(store: Store) -> None:
    request(store, *(f"old{number:02}" for number in range(18)))
    request(store, *(f"new{number:02}" for number in range(18)), now=NOON + timedelta(milliseconds=240))

    early = claim(store, now=NOON + timedelta(milliseconds=245))
    batch = claimed(store, now=NOON + timedelta(milliseconds=250))

    assert early == Wait(timedelta(milliseconds=5))
    assert batch.media_ids == [f"old{number:02}" for number in range(18)]


def test_without_due_requests_there_is_no_claim(store: Store) -> None:
    assert claim(store) is None


def test_a_batch_takes_live_then_manual_then_backfill_requests(store: Store) -> None:
    request(store, "backfill", priority=BACKFILL, now=NOON - 3 * SECOND)
    request(store, "manual", priority=MANUAL, now=NOON - 2 * SECOND)
    request(store, "live", priority=LIVE, now=NOON - SECOND)

    batch = claimed(store, limit=2)

    assert batch.media_ids == ["live", "manual"]


def test_a_notification_raises_a_backfill_request_to_live(store: Store) -> None:
    request(store, "a", priority=BACKFILL)

    notify(store, "a")
    request(store, "a", priority=MANUAL)

    assert (rows(store)["a"].priority, rows(store)["a"].reason) == (LIVE, "VideoAnalysisComplete")


def test_claimed_requests_are_not_claimed_again_until_the_lease_ends(store: Store) -> None:
    request(store, "a")
    claimed(store, now=NOON + SECOND)

    during = claim(store, now=NOON + 30 * SECOND)
    after = claim(store, now=NOON + 62 * SECOND)

    assert during is None
    assert isinstance(after, Claim)


def test_a_batch_contains_one_source_only(store: Store) -> None:
    request(store, "a", source="one")
    request(store, "a", source="two")

    batch = claimed(store, source="two")

    assert (batch.source, batch.media_ids) == ("two", ["a"])
    assert isinstance(claim(store, source="one"), Claim)


def test_a_notification_during_the_lease_is_not_lost_on_completion(store: Store) -> None:
    request(store, "a", "b")
    batch = claimed(store)
    notify(store, "a", now=NOON + 2 * SECOND)

    leased = rows(store)["a"]
    completed = store.transact(lambda connection: SyncRequests(connection).complete(batch, ["a", "b"], now=NOON + 3 * SECOND))

    assert leased.available_at == batch.until
    assert completed == 1
    assert list(rows(store)) == ["a"]
    assert (rows(store)["a"].available_at, rows(store)["a"].claim) == (NOON + 3 * SECOND, None)


def test_a_worker_that_lost_its_lease_completes_nothing(store: Store) -> None:
    request(store, "a")
    slow = claimed(store, now=NOON + SECOND)
    fast = claimed(store, now=NOON + 120 * SECOND)

    completed = store.transact(lambda connection: SyncRequests(connection).complete(slow, ["a"], now=NOON + 121 * SECOND))

    assert completed == 0
    assert rows(store)["a"].claim == fast.token


def test_a_failed_request_is_retried_with_one_attempt_more(store: Store) -> None:
    request(store, "a")
    batch = claimed(store)
    later = NOON + 30 * SECOND

    store.transact(lambda connection: SyncRequests(connection).retry(batch, [Retry("a", later, "gone", failed=True)], now=NOON))

    row = rows(store)["a"]
    assert (row.attempts, row.available_at, row.last_error, row.claim) == (1, later, "gone", None)


def test_a_notification_makes_a_waiting_request_due_at_once(store: Store) -> None:
    request(store, "a")
    batch = claimed(store)
    store.transact(lambda connection: SyncRequests(connection).retry(batch, [Retry("a", NOON + 300 * SECOND, "x")], now=NOON))

    notify(store, "a", now=NOON + 5 * SECOND)

    assert (rows(store)["a"].available_at, rows(store)["a"].attempts) == (NOON + 5 * SECOND, 0)


def test_a_dead_letter_stays_until_the_next_notification(store: Store) -> None:
    request(store, "a")
    batch = claimed(store)
    store.transact(lambda connection: SyncRequests(connection).dead_letter(batch, {"a": "poison"}, now=NOON))

    dead = rows(store)["a"]
    unclaimed = claim(store, now=NOON + 3600 * SECOND)
    notify(store, "a", now=NOON + 3601 * SECOND)

    assert (dead.state, dead.last_error) == ("dead", "poison")
    assert unclaimed is None
    assert (rows(store)["a"].state, rows(store)["a"].attempts) == ("due", 0)


def test_an_asset_notified_during_its_last_attempt_is_due_again(store: Store) -> None:
    request(store, "a")
    batch = claimed(store)
    notify(store, "a", now=NOON + 2 * SECOND)

    store.transact(lambda connection: SyncRequests(connection).dead_letter(batch, {"a": "poison"}, now=NOON + 3 * SECOND))

    assert (rows(store)["a"].state, rows(store)["a"].available_at) == ("due", NOON + 3 * SECOND)


def test_concurrent_claims_do_not_overlap(store: Store) -> None:
    request(store, *(f"m{number:03}" for number in range(200)))
    claimed_ids: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while isinstance(batch := claim(store), Claim):
            with lock:
                claimed_ids.extend(batch.media_ids)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len(claimed_ids) == 200
    assert len(set(claimed_ids)) == 200


def test_concurrent_receivers_of_the_same_assets_lose_nothing(store: Store) -> None:
    def send(number: int) -> None:
        for repetition in range(10):
            notify(store, *(f"m{index:02}" for index in range(30)), event=f"Event{number}-{repetition}")

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    with store.reading() as connection:
        stored = connection.execute(select(notification.c.id)).all()
    assert len(stored) == 4 * 10 * 30
    assert {row.generation for row in rows(store).values()} == {40}


def test_texts_of_any_alphabet_are_stored(store: Store) -> None:
    notify(store, "a", Title="猫 👩‍👩‍👧 ñ \u0000 '; DROP TABLE vod_media; --")

    with store.reading() as connection:
        stored = connection.execute(select(notification.c.body)).scalar_one()
    assert "👩‍👩‍👧" in stored
    assert "DROP TABLE" in stored
