"""The rate limit over many single calls, on each of the three databases and with a clock of the test."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import BigInteger, ColumnElement, literal

from tests.builders import NOON, SECOND
from worker.core.wait import Wait
from worker.store import Store, rate_limit
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter, Slot

MILLISECOND = timedelta(milliseconds=1)

#: How much later than its slot each call starts, over and over again; the worker reports it.
LATENESS = [milliseconds * MILLISECOND for milliseconds in (40, 0, 15, 30, 0, 0, 25)]

#: How much longer one request may take to VOD than another; the worker cannot measure it.
NETWORK_JITTER = 30 * MILLISECOND


class DatabaseClock:
    """The clock that the rate limit reads in the database; it moves only when the test advances it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self, _dialect: str) -> ColumnElement[int]:
        return literal(round(self.now.timestamp() * 1_000_000), BigInteger())


@pytest.fixture
def database_clock(monkeypatch: pytest.MonkeyPatch) -> DatabaseClock:
    clock = DatabaseClock()
    monkeypatch.setattr(rate_limit, "clock", clock)
    return clock


def acquire(store: Store, clock: DatabaseClock, *, per_second: float) -> Slot:
    """Take the next slot; advance the clock while there is none."""
    while isinstance(result := take(store, per_second=per_second), Wait):
        assert result.duration > timedelta(0)
        clock.now += result.duration
    return result


def take(store: Store, *, per_second: float) -> Slot | Wait:
    return store.transact(lambda connection: RateLimiter(connection).take("default", BATCH_GET_MEDIA_INFOS, per_second=per_second))


def report_late_start(store: Store, slot: Slot, late: timedelta) -> None:
    store.transact(
        lambda connection: RateLimiter(connection).adjust_started("default", BATCH_GET_MEDIA_INFOS, {slot.at: slot.at + late})
    )


def start_calls(store: Store, clock: DatabaseClock, count: int, *, per_second: float, lateness: list[timedelta]) -> list[datetime]:
    """Make calls one by one as fast as the rate limit permits, and report those that start late. Return when each started."""
    started: list[datetime] = []
    for number in range(count):
        slot = acquire(store, clock, per_second=per_second)
        late = lateness[number % len(lateness)]
        started.append(slot.at + late)
        if late:
            report_late_start(store, slot, late)
    return sorted(started)


@pytest.mark.parametrize("lateness", [[timedelta(0)], LATENESS], ids=["punctual", "late"])
@pytest.mark.parametrize(("per_second", "seconds"), [(20, 1), (5, 1), (100, 0.2)])
def test_single_calls_keep_the_rate_with_room_for_network_jitter(
    store: Store, database_clock: DatabaseClock, per_second: int, seconds: float, lateness: list[timedelta]
) -> None:
    calls = round(per_second * seconds)

    started = start_calls(store, database_clock, 2 * calls + 2, per_second=per_second, lateness=lateness)

    # The shortest time from one call to the first that may not share its window.
    shortest = min(after - before for before, after in zip(started, started[calls:], strict=False))
    assert shortest >= seconds * SECOND + NETWORK_JITTER * seconds


def test_a_source_uses_at_least_95_percent_of_its_rate(store: Store, database_clock: DatabaseClock) -> None:
    started = start_calls(store, database_clock, 101, per_second=20, lateness=[timedelta(0)])

    assert started[100] - started[0] <= 5 * SECOND / 0.95
