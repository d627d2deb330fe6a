"""The account's rate, as all workers keep it together."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from worker.core.wait import Wait
from worker.store import Store
from worker.store.rate_limit import BATCH, RateLimiter, Slot
from worker.store.tables import quota

SECOND = timedelta(seconds=1)


def take(store: Store, *, per_second: float = 20, calls: int = 1) -> Slot | Wait:
    return store.transact(lambda connection: RateLimiter(connection).take("default", BATCH, per_second=per_second, calls=calls))


def slot(store: Store, *, per_second: float = 20, calls: int = 1) -> Slot:
    taken = take(store, per_second=per_second, calls=calls)
    assert isinstance(taken, Slot)
    return taken


def until_next(store: Store, first: Slot, *, per_second: float = 20) -> timedelta:
    """From a slot to the next one, which is waited for."""
    while isinstance(taken := take(store, per_second=per_second), Wait):
        time.sleep(taken.duration.total_seconds())
    return taken.at - first.at


@pytest.mark.parametrize(("per_second", "calls", "seconds"), [(20, 20, 1), (20, 19, 0.95), (5, 5, 1), (100, 20, 0.2), (0.5, 1, 2)])
def test_a_second_holds_no_more_calls_than_it_may(store: Store, per_second: float, calls: int, seconds: float) -> None:
    first = slot(store, per_second=per_second, calls=calls)

    assert until_next(store, first, per_second=per_second) >= seconds * SECOND


def test_calls_that_start_late_count_where_they_start(store: Store) -> None:
    first = slot(store, calls=20)
    slots = [first.at + number * SECOND / 20 for number in range(20)]

    store.transact(
        lambda connection: RateLimiter(connection).adjust_started("default", BATCH, dict.fromkeys(slots, first.at + 0.9 * SECOND))
    )

    assert until_next(store, first) > 1.85 * SECOND


def test_what_passes_before_a_slot_shortens_the_wait_for_it(store: Store) -> None:
    slot(store)
    second = slot(store)

    while time.monotonic() < second.due:
        assert second.wait.total_seconds() <= second.due - time.monotonic() + 0.05
        time.sleep(0.005)

    assert second.wait == timedelta(0)
    assert second.late() >= timedelta(0)


def test_a_clock_that_was_set_back_holds_nobody_for_long(store: Store) -> None:
    slot(store, calls=20)
    ahead = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1_000_000)
    with store.engine.begin() as connection:
        connection.execute(update(quota).values(next_at_us=ahead, started_us=[ahead] * 20))

    assert slot(store).wait < SECOND
