"""The calls of sources that belong to one account and share its rate limit, on each of the three databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, element, request
from worker.core.errors import VodError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL
from worker.store.rate_limit import BATCH, Held, RateLimiter
from worker.store.tables import quota
from worker.sync.batch import BatchResult, sync_batch
from worker.sync.retry_policy import Policy
from worker.vod.testing import FakeVod

#: Both sources of the account draw from the rate limit of the first one.
ACCOUNT = "alpha"
POLICY = Policy(bucket=ACCOUNT, calls_per_second=1000, jitter=lambda: 1.0)


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


def run(store: Store, vod: FakeVod, source: str, *, now: datetime = NOON + SECOND) -> BatchResult:
    return sync_batch(store, vod, now=now, source=source, policy=POLICY)


def held(store: Store) -> list[Held]:
    with store.reading() as connection:
        return RateLimiter(connection).back_offs()


def started_calls(store: Store) -> dict[str, int]:
    """How many calls each rate limit has counted, by its source."""
    with store.reading() as connection:
        return {row.source: len(row.started_us) for row in connection.execute(select(quota))}


def test_throttling_of_one_source_holds_back_the_other_of_its_account(store: Store, vod: FakeVod) -> None:
    request(store, "a", source="alpha")
    request(store, "b", source="beta")
    vod.fail(VodThrottledError("Throttling.User", retry_after=30))

    run(store, vod, "beta")
    report = run(store, vod, "alpha")

    assert vod.calls == [["b"]]
    assert report.wait is not None
    assert 25 * SECOND < report.wait <= 30 * SECOND
    assert [(each.source, each.operation) for each in held(store)] == [(ACCOUNT, BATCH)]


def test_slots_of_one_source_are_missing_for_the_other_of_its_account(store: Store, vod: FakeVod) -> None:
    request(store, "b", source="beta")
    store.transact(lambda connection: RateLimiter(connection).take(ACCOUNT, BATCH, per_second=1, calls=10))

    report = run(store, vod, "beta")

    assert vod.calls == []
    assert report.wait is not None
    assert 5 * SECOND < report.wait <= 10 * SECOND


def test_the_further_calls_of_a_halved_batch_count_for_the_account(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"), element("b"))
    request(store, "a", "b", source="beta", priority=BACKFILL)
    vod.fail(VodRefusedError("one of them", code="InvalidParameter", status=400))

    run(store, vod, "beta")

    assert sorted(vod.calls) == [["a"], ["a", "b"], ["b"]]
    assert started_calls(store) == {ACCOUNT: 3}


@pytest.mark.parametrize(
    ("error", "fault"),
    [(None, None), (VodUnavailableError("no route"), "no route")],
    ids=["answered", "failed"],
)
def test_a_call_of_one_source_decides_whether_the_account_still_fails(
    store: Store, vod: FakeVod, error: VodError | None, fault: str | None
) -> None:
    vod.put(element("b"))
    request(store, "b", source="beta")
    store.transact(lambda connection: RateLimiter(connection).back_off(ACCOUNT, BATCH, timedelta(), fault="Throttling.User"))
    if error:
        vod.fail(error)

    run(store, vod, "beta")

    assert vod.calls == [["b"]]
    assert [(each.source, each.fault) for each in held(store)] == ([(ACCOUNT, fault)] if fault else [])
