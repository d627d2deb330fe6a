"""The account's rate, as all workers keep it together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tests.fake_time import FakeTime
from worker.core.wait import Wait
from worker.store import Store
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter, Slot
from worker.store.tables import quota

SECOND = timedelta(seconds=1)


def take(store: Store, *, per_second: float = 20, calls: int = 1) -> Slot | Wait:
    return store.transact(
        lambda connection: RateLimiter(connection).take("default", BATCH_GET_MEDIA_INFOS, per_second=per_second, calls=calls)
    )


def slot(store: Store, *, per_second: float = 20, calls: int = 1) -> Slot:
    taken = take(store, per_second=per_second, calls=calls)
    assert isinstance(taken, Slot)
    return taken


def until_next(store: Store, first: Slot, fake_time: FakeTime, *, per_second: float = 20) -> timedelta:
    """From a slot to the next one, which is waited for."""
    return waited_for(store, fake_time, per_second=per_second).at - first.at


def waited_for(store: Store, fake_time: FakeTime, *, per_second: float = 20) -> Slot:
    while isinstance(taken := take(store, per_second=per_second), Wait):
        fake_time.sleep(taken.duration.total_seconds())
    return taken


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime().install(monkeypatch, "worker.store.rate_limit")


#: Calls per second, calls, and the seconds that they take at least; a full window includes the reserve for jitter.
RATES = [(20, 20, 1.03), (20, 19, 0.95), (5, 5, 1.03), (100, 20, 0.206), (0.5, 1, 2.06)]


@pytest.mark.parametrize(("per_second", "calls", "seconds"), RATES)
def test_a_second_holds_no_more_calls_than_it_may(
    store: Store, fake_time: FakeTime, per_second: float, calls: int, seconds: float
) -> None:
    first = waited_for(store, fake_time, per_second=per_second)

    for _ in range(calls - 1):
        waited_for(store, fake_time, per_second=per_second)

    assert until_next(store, first, fake_time, per_second=per_second) >= seconds * SECOND


@pytest.mark.parametrize(("per_second", "calls", "seconds"), RATES)
def test_calls_that_are_reserved_together_count_as_so_many(
    store: Store, fake_time: FakeTime, per_second: float, calls: int, seconds: float
) -> None:
    first = slot(store, per_second=per_second, calls=calls)

    assert until_next(store, first, fake_time, per_second=per_second) >= seconds * SECOND


def test_calls_that_start_late_count_where_they_start(store: Store, fake_time: FakeTime) -> None:
    first = slot(store, calls=20)
    slots = [first.at + number * SECOND / 20 for number in range(20)]

    store.transact(
        lambda connection: RateLimiter(connection).adjust_started(
            "default", BATCH_GET_MEDIA_INFOS, dict.fromkeys(slots, first.at + 0.9 * SECOND)
        )
    )

    assert until_next(store, first, fake_time) > 1.85 * SECOND


def test_what_passes_before_a_slot_shortens_the_wait_for_it(store: Store, fake_time: FakeTime) -> None:
    slot(store)
    second = slot(store)
    waits = [second.wait.total_seconds()]

    for seconds in (0.02, 0.02, 0.02):
        fake_time.sleep(seconds)
        waits.append(second.wait.total_seconds())

    assert waits == pytest.approx([0.05, 0.03, 0.01, 0])
    assert second.late().total_seconds() == pytest.approx(0.01)


def test_a_clock_that_was_set_back_holds_nobody_for_long(store: Store) -> None:
    slot(store, calls=20)
    ahead = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1_000_000)
    with store.engine.begin() as connection:
        connection.execute(update(quota).values(next_at_us=ahead, started_us=[ahead] * 20))

    assert slot(store).wait < SECOND


def test_slots_are_times_of_the_databases_clock(store: Store) -> None:
    # All servers of a test run have one clock; an hour is what a wrong time zone is off at least.
    assert abs(slot(store).at - datetime.now(UTC)) < timedelta(minutes=10)
