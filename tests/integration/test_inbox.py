"""The inbox on each of the three databases."""

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


def test_a_notification_is_written_down_with_its_request(store: Store) -> None:
    new = notify(store, "a")

    with store.reading() as connection:
        kept = connection.execute(select(notification)).one()
    due = rows(store)["a"]
    assert new == 1
    assert (kept.source, kept.media_id, kept.event_type, kept.status) == ("default", "a", "VideoAnalysisComplete", "success")
    assert (kept.event_time, kept.received_at, kept.deliveries) == (NOON, NOON, 1)
    assert (due.reason, due.priority, due.generation, due.state, due.available_at) == (
        "VideoAnalysisComplete",
        LIVE,
        1,
        "due",
        NOON,
    )


def test_a_repeated_delivery_is_counted_and_asks_for_nothing(store: Store) -> None:
    notify(store, "a")
    taken = claimed(store)
    store.transact(lambda connection: SyncRequests(connection).complete(taken, ["a"], now=NOON))

    new = notify(store, "a", now=NOON + 5 * SECOND)

    with store.reading() as connection:
        kept = connection.execute(select(notification)).one()
    assert new == 0
    assert (kept.deliveries, kept.received_at) == (2, NOON)
    assert rows(store) == {}


def test_the_same_notification_twice_in_one_commit_is_one_row(store: Store) -> None:
    notify(store, "a", "a", "b")

    with store.reading() as connection:
        kept = connection.execute(
            select(notification.c.media_id, notification.c.deliveries).order_by(notification.c.media_id)
        ).all()
    assert kept == [("a", 2), ("b", 1)]


def test_many_notifications_for_one_medium_are_one_request(store: Store) -> None:
    for number in range(6):
        notify(store, "a", event=f"Event{number}")

    due = rows(store)["a"]
    assert (due.generation, due.requested_at, due.available_at) == (6, NOON, NOON)


def test_a_batch_waits_while_it_is_young_and_not_full(store: Store) -> None:
    request(store, "a")

    early = claim(store, now=NOON + timedelta(milliseconds=100))
    late = claim(store, now=NOON + timedelta(milliseconds=250))

    assert early == Wait(timedelta(milliseconds=150))
    assert isinstance(late, Claim)
    assert late.media_ids == ["a"]


def test_a_full_batch_goes_before_the_linger_ends(store: Store) -> None:
    request(store, *(f"m{number:02}" for number in range(25)))

    taken = claimed(store, now=NOON + timedelta(milliseconds=50))

    assert len(taken.requests) == 20


def test_media_that_were_notified_a_moment_ago_are_left_to_gather_their_next_notification(store: Store) -> None:
    request(store, *(f"old{number:02}" for number in range(18)))
    request(store, *(f"new{number:02}" for number in range(18)), now=NOON + timedelta(milliseconds=240))

    young = claim(store, now=NOON + timedelta(milliseconds=245))
    taken = claimed(store, now=NOON + timedelta(milliseconds=250))

    assert young == Wait(timedelta(milliseconds=5))
    assert taken.media_ids == [f"old{number:02}" for number in range(18)]


def test_nothing_due_is_no_claim(store: Store) -> None:
    assert claim(store) is None


def test_live_goes_before_manual_before_backfill_and_they_share_a_batch(store: Store) -> None:
    request(store, "backfill", priority=BACKFILL, now=NOON - 3 * SECOND)
    request(store, "manual", priority=MANUAL, now=NOON - 2 * SECOND)
    request(store, "live", priority=LIVE, now=NOON - SECOND)

    taken = claimed(store, limit=2)

    assert taken.media_ids == ["live", "manual"]


def test_a_live_notification_lifts_a_backfill_request(store: Store) -> None:
    request(store, "a", priority=BACKFILL)

    notify(store, "a")
    request(store, "a", priority=MANUAL)

    assert (rows(store)["a"].priority, rows(store)["a"].reason) == (LIVE, "VideoAnalysisComplete")


def test_claimed_media_are_nobody_elses_until_the_lease_ends(store: Store) -> None:
    request(store, "a")
    claimed(store, now=NOON + SECOND)

    during = claim(store, now=NOON + 30 * SECOND)
    after = claim(store, now=NOON + 62 * SECOND)

    assert during is None
    assert isinstance(after, Claim)


def test_sources_do_not_mix_in_a_batch(store: Store) -> None:
    request(store, "a", source="one")
    request(store, "a", source="two")

    taken = claimed(store, source="two")

    assert (taken.source, taken.media_ids) == ("two", ["a"])
    assert isinstance(claim(store, source="one"), Claim)


def test_a_notification_during_the_lease_is_not_swallowed_by_the_settle(store: Store) -> None:
    request(store, "a", "b")
    taken = claimed(store)
    notify(store, "a", now=NOON + 2 * SECOND)

    leased = rows(store)["a"]
    settled = store.transact(lambda connection: SyncRequests(connection).complete(taken, ["a", "b"], now=NOON + 3 * SECOND))

    assert leased.available_at == taken.until
    assert settled == 1
    assert list(rows(store)) == ["a"]
    assert (rows(store)["a"].available_at, rows(store)["a"].claim) == (NOON + 3 * SECOND, None)


def test_whoever_lost_the_lease_settles_nothing(store: Store) -> None:
    request(store, "a")
    slow = claimed(store, now=NOON + SECOND)
    fast = claimed(store, now=NOON + 120 * SECOND)

    settled = store.transact(lambda connection: SyncRequests(connection).complete(slow, ["a"], now=NOON + 121 * SECOND))

    assert settled == 0
    assert rows(store)["a"].claim == fast.token


def test_a_postponed_request_comes_back_with_one_attempt_more(store: Store) -> None:
    request(store, "a")
    taken = claimed(store)
    later = NOON + 30 * SECOND

    store.transact(lambda connection: SyncRequests(connection).retry(taken, [Retry("a", later, "gone", failed=True)], now=NOON))

    row = rows(store)["a"]
    assert (row.attempts, row.available_at, row.last_error, row.claim) == (1, later, "gone", None)


def test_a_notification_ends_a_backoff(store: Store) -> None:
    request(store, "a")
    taken = claimed(store)
    store.transact(lambda connection: SyncRequests(connection).retry(taken, [Retry("a", NOON + 300 * SECOND, "x")], now=NOON))

    notify(store, "a", now=NOON + 5 * SECOND)

    assert (rows(store)["a"].available_at, rows(store)["a"].attempts) == (NOON + 5 * SECOND, 0)


def test_a_dead_letter_stays_until_somebody_asks_again(store: Store) -> None:
    request(store, "a")
    taken = claimed(store)
    store.transact(lambda connection: SyncRequests(connection).dead_letter(taken, {"a": "poison"}, now=NOON))

    dead = rows(store)["a"]
    unclaimed = claim(store, now=NOON + 3600 * SECOND)
    notify(store, "a", now=NOON + 3601 * SECOND)

    assert (dead.state, dead.last_error) == ("dead", "poison")
    assert unclaimed is None
    assert (rows(store)["a"].state, rows(store)["a"].attempts) == ("due", 0)


def test_a_medium_notified_while_it_was_given_up_is_due_again(store: Store) -> None:
    request(store, "a")
    taken = claimed(store)
    notify(store, "a", now=NOON + 2 * SECOND)

    store.transact(lambda connection: SyncRequests(connection).dead_letter(taken, {"a": "poison"}, now=NOON + 3 * SECOND))

    assert (rows(store)["a"].state, rows(store)["a"].available_at) == ("due", NOON + 3 * SECOND)


def test_workers_that_claim_at_once_share_without_overlap(store: Store) -> None:
    request(store, *(f"m{number:03}" for number in range(200)))
    taken: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while isinstance(got := claim(store), Claim):
            with lock:
                taken.extend(got.media_ids)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len(taken) == 200
    assert len(set(taken)) == 200


def test_receivers_that_write_the_same_media_at_once_lose_nothing(store: Store) -> None:
    def send(number: int) -> None:
        for turn in range(10):
            notify(store, *(f"m{each:02}" for each in range(30)), event=f"Event{number}-{turn}")

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    with store.reading() as connection:
        kept = connection.execute(select(notification.c.id)).all()
    assert len(kept) == 4 * 10 * 30
    assert {row.generation for row in rows(store).values()} == {40}


def test_texts_of_any_alphabet_survive(store: Store) -> None:
    notify(store, "a", Title="猫 👩‍👩‍👧 ñ \u0000 '; DROP TABLE vod_media; --")

    with store.reading() as connection:
        kept = connection.execute(select(notification.c.body)).scalar_one()
    assert "👩‍👩‍👧" in kept
    assert "DROP TABLE" in kept
