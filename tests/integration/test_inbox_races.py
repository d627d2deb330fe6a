"""Sync requests that two processes change at the same time, on each of the three databases."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, claimed, notify, request
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Claim, Request, Retry, SyncRequests
from worker.store.tables import sync_request

TWO_WRITERS = pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)


def stored(store: Store, media_id: str) -> Any:
    with store.reading() as connection:
        return connection.execute(select(sync_request).where(sync_request.c.media_id == media_id)).one()


def retry(store: Store, claim: Claim, *, at: datetime, now: datetime, **changes: Any) -> None:
    retries = [Retry(media_id, at, "no answer", **changes) for media_id in claim.media_ids]
    store.transact(lambda connection: SyncRequests(connection).retry(claim, retries, now=now))


@TWO_WRITERS
def test_a_claim_takes_what_an_open_claim_leaves_without_waiting(store: Store) -> None:
    request(store, *"abcde")

    with store.engine.begin() as other_worker:
        other = SyncRequests(other_worker).claim("default", limit=2, now=NOON + SECOND, lease=SECOND * 60, linger=timedelta(0))
        batch = claimed(store)

    assert isinstance(other, Claim)
    assert (len(other.media_ids), len(batch.media_ids)) == (2, 3)
    assert sorted(other.media_ids + batch.media_ids) == [*"abcde"]


@TWO_WRITERS
def test_a_claim_leaves_out_a_request_that_an_open_transaction_renews(store: Store) -> None:
    request(store, "a", "b")

    with store.engine.begin() as receiver:
        SyncRequests(receiver).request([Request("default", "a", "TranscodeComplete", LIVE)], now=NOON + SECOND)
        batch = claimed(store)

    assert batch.media_ids == ["b"]
    assert stored(store, "a").generation == 2


def test_a_request_notified_during_its_claim_is_due_at_once_with_nothing_counted(store: Store) -> None:
    request(store, "a", priority=BACKFILL)
    batch = claimed(store)
    notify(store, "a", now=NOON + 2 * SECOND)
    other_priority, later = MANUAL, NOON + 300 * SECOND

    retry(store, batch, at=later, now=NOON + 3 * SECOND, failed=True, waited=True, priority=other_priority)

    row = stored(store, "a")
    assert (row.claim, row.available_at) == (None, NOON + 3 * SECOND)
    assert (row.attempts, row.waits) == (0, 0)
    assert (row.priority, row.reason) == (LIVE, "VideoAnalysisComplete")


def test_a_notification_during_the_second_claim_resets_the_counters(store: Store) -> None:
    request(store, "a")
    retry(store, claimed(store), at=NOON + 10 * SECOND, now=NOON + SECOND, failed=True, waited=True)
    again = claimed(store, now=NOON + 11 * SECOND)
    counted = again.requests[0]
    notify(store, "a", now=NOON + 12 * SECOND)

    retry(store, again, at=NOON + 300 * SECOND, now=NOON + 13 * SECOND, failed=True, waited=True)

    row = stored(store, "a")
    assert (counted.attempts, counted.waits) == (1, 1)
    assert (row.attempts, row.waits, row.available_at) == (0, 0, NOON + 13 * SECOND)


def test_a_retried_request_that_was_not_notified_counts_and_changes_its_priority(store: Store) -> None:
    request(store, "a", priority=BACKFILL)
    batch = claimed(store)
    later = NOON + 300 * SECOND

    retry(store, batch, at=later, now=NOON + 3 * SECOND, failed=True, waited=True, priority=MANUAL)

    row = stored(store, "a")
    assert (row.attempts, row.waits, row.priority, row.available_at) == (1, 1, MANUAL, later)


@pytest.mark.parametrize("order", [[0, 5, 3], [5, 3, 0], [3, 0, 5]], ids=str)
def test_a_request_of_several_notifications_in_one_commit_counts_from_the_first(store: Store, order: list[int]) -> None:
    requests = [Request("default", "a", "test", LIVE, requested_at=NOON + seconds * SECOND) for seconds in order]

    store.transact(lambda connection: SyncRequests(connection).request(requests, now=NOON + 60 * SECOND))

    row = stored(store, "a")
    assert (row.requested_at, row.generation) == (NOON, 1)


def test_a_notification_resets_the_counters(store: Store) -> None:
    request(store, "a")
    retry(store, claimed(store), at=NOON + 300 * SECOND, now=NOON + SECOND, failed=True, waited=True)

    notify(store, "a", now=NOON + 12 * SECOND)

    row = stored(store, "a")
    assert (row.attempts, row.waits, row.available_at) == (0, 0, NOON + 12 * SECOND)
