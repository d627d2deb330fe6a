"""The rate limit that all workers of an account share, on each of the three databases."""

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


def immediate_slot(store: Store, *, per_second: float = 20, calls: int = 1) -> Slot:
    result = take(store, per_second=per_second, calls=calls)
    assert isinstance(result, Slot)
    return result


def time_to_next_slot(store: Store, first: Slot, fake_time: FakeTime, *, per_second: float = 20) -> timedelta:
    """Wait for the next slot. Return the time from `first` to it."""
    return acquire(store, fake_time, per_second=per_second).at - first.at


def acquire(store: Store, fake_time: FakeTime, *, per_second: float = 20) -> Slot:
    while isinstance(result := take(store, per_second=per_second), Wait):
        fake_time.sleep(result.duration.total_seconds())
    return result


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime().install(monkeypatch, "worker.store.rate_limit")


#: Calls per second, calls, and the seconds that they take at least; a full window includes the reserve for jitter.
RATES = [(20, 20, 1.03), (20, 19, 0.95), (5, 5, 1.03), (100, 20, 0.206), (0.5, 1, 2.06)]


@pytest.mark.parametrize(("per_second", "calls", "seconds"), RATES)
def test_a_second_has_no_more_calls_than_allowed(
    store: Store, fake_time: FakeTime, per_second: float, calls: int, seconds: float
) -> None:
    first = acquire(store, fake_time, per_second=per_second)

    for _ in range(calls - 1):
        acquire(store, fake_time, per_second=per_second)

    assert time_to_next_slot(store, first, fake_time, per_second=per_second) >= seconds * SECOND


@pytest.mark.parametrize(("per_second", "calls", "seconds"), RATES)
def test_calls_that_are_reserved_together_count_one_by_one(
    store: Store, fake_time: FakeTime, per_second: float, calls: int, seconds: float
) -> None:
    first = immediate_slot(store, per_second=per_second, calls=calls)

    assert time_to_next_slot(store, first, fake_time, per_second=per_second) >= seconds * SECOND


def test_calls_that_start_late_count_from_their_start(store: Store, fake_time: FakeTime) -> None:
    first = immediate_slot(store, calls=20)
    slots = [first.at + number * SECOND / 20 for number in range(20)]

    store.transact(
        lambda connection: RateLimiter(connection).adjust_started(
            "default", BATCH_GET_MEDIA_INFOS, dict.fromkeys(slots, first.at + 0.9 * SECOND)
        )
    )

    assert time_to_next_slot(store, first, fake_time) > 1.85 * SECOND


def test_passing_time_shortens_the_wait_for_a_slot(store: Store, fake_time: FakeTime) -> None:
    immediate_slot(store)
    second = immediate_slot(store)
    waits = [second.wait.total_seconds()]

    for seconds in (0.02, 0.02, 0.02):
        fake_time.sleep(seconds)
        waits.append(second.wait.total_seconds())

    assert waits == pytest.approx([0.05, 0.03, 0.01, 0])
    assert second.late().total_seconds() == pytest.approx(0.01)


def test_a_clock_that_was_set_back_causes_no_long_wait(store: Store) -> None:
    immediate_slot(store, calls=20)
    ahead = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1_000_000)
    with store.engine.begin() as connection:
        connection.execute(update(quota).values(next_at_us=ahead, started_us=[ahead] * 20))

    assert immediate_slot(store).wait < SECOND


def test_slots_are_times_of_the_clock_of_the_database(store: Store) -> None:
    # All servers of a test run have the same clock. A wrong time zone differs by at least half an hour.
    assert abs(immediate_slot(store).at - datetime.now(UTC)) < timedelta(minutes=10)
