"""Requests of other programs become sync requests, on each of the three databases."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.builders import NOON, SECOND, claimed, request
from worker.core.errors import StoreUnavailableError
from worker.core.reprocess import Priority, ReprocessRequest
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL
from worker.store.tables import sync_request
from worker.sync.reprocess import reprocess


def reprocess_request(
    *keys: str, reason: str = "re-encoded", priority: Priority = "manual", source: str = "default"
) -> ReprocessRequest:
    return ReprocessRequest(source, keys, reason, priority)


def due(store: Store) -> dict[tuple[str, str], tuple[str, int]]:
    with store.reading() as connection:
        rows = connection.execute(sa.select(sync_request))
        return {(row.source, row.media_id): (row.reason, row.priority) for row in rows}


def test_every_message_of_a_group_becomes_requests(store: Store) -> None:
    messages = [
        reprocess_request("a", "ref:b"),
        reprocess_request("c", priority="live"),
        reprocess_request("a", source="singapore", priority="backfill", reason="other"),
    ]

    reprocess(store, messages, now=NOON)

    assert due(store) == {
        ("default", "a"): ("re-encoded", MANUAL),
        ("default", "ref:b"): ("re-encoded", MANUAL),
        ("default", "c"): ("re-encoded", LIVE),
        ("singapore", "a"): ("other", BACKFILL),
    }


@pytest.mark.parametrize("priorities", [("live", "backfill"), ("backfill", "live")])
def test_the_highest_priority_of_several_messages_for_an_asset_counts(store: Store, priorities: tuple[Priority, ...]) -> None:
    reprocess(store, [reprocess_request("a", priority=priority, reason=priority) for priority in priorities], now=NOON)

    assert due(store) == {("default", "a"): ("live", LIVE)}


def test_a_due_request_keeps_its_higher_priority(store: Store) -> None:
    request(store, "a", priority=LIVE)

    reprocess(store, [reprocess_request("a", priority="backfill")], now=NOON + SECOND)

    assert due(store) == {("default", "a"): ("test", LIVE)}


def test_a_full_message_becomes_requests_in_one_transaction(store: Store) -> None:
    reprocess(store, [reprocess_request(*(f"asset-{number}" for number in range(10_000)))], now=NOON)

    assert len(due(store)) == 10_000
    assert len(claimed(store, now=NOON + SECOND).requests) == 20


def test_an_unreachable_database_is_reported() -> None:
    unreachable = Store.open("postgresql://unknown@127.0.0.1:1/nothing")

    with pytest.raises(StoreUnavailableError):
        reprocess(unreachable, [reprocess_request("a")], now=NOON)
