"""When an outage is logged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from worker.outage import Outage


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_start_is_logged_once(clock: Clock) -> None:
    outage = Outage(clock=clock)

    assert [outage.failed("refused") for _ in range(3)] == [True, False, False]


def test_an_outage_that_lasts_is_logged_once_a_minute(clock: Clock) -> None:
    outage = Outage(clock=clock)
    logged_at = []
    for second in range(0, 200, 5):
        clock.now = 1000.0 + second
        if outage.failed("refused"):
            logged_at.append(second)

    assert logged_at == [0, 60, 120, 180]


def test_failures_that_are_not_logged_are_counted_for_the_next_line(clock: Clock) -> None:
    outage = Outage(clock=clock)
    counts = []
    for second in range(0, 130, 5):
        clock.now = 1000.0 + second
        if outage.failed("refused"):
            counts.append(outage.unlogged)
    outage.recovered()

    assert [*counts, outage.unlogged] == [0, 11, 11, 1]


def test_the_end_is_logged_once(clock: Clock) -> None:
    outage = Outage(clock=clock)
    outage.failed("refused")

    assert [outage.recovered(), outage.recovered()] == [True, False]


def test_a_success_without_an_outage_is_not_logged(clock: Clock) -> None:
    assert Outage(clock=clock).recovered() is False


def test_a_new_outage_is_logged_at_once(clock: Clock) -> None:
    outage = Outage(clock=clock)
    outage.failed("refused")
    outage.recovered()

    assert outage.failed("refused") is True


def test_the_latest_error_is_kept_until_the_outage_ends(clock: Clock) -> None:
    outage = Outage(clock=clock)
    before = outage.active, outage.error
    outage.failed("refused")
    outage.failed("timed out")
    during = outage.active, outage.error
    outage.recovered()

    assert (before, during) == ((False, None), (True, "timed out"))
    assert (outage.active, outage.error) == (False, None)


def test_an_empty_error_is_an_outage_as_well(clock: Clock) -> None:
    outage = Outage(clock=clock)
    outage.failed("")

    assert outage.active
    assert outage.recovered()


def test_each_kind_of_failure_is_logged_at_once_and_then_once_a_minute(clock: Clock) -> None:
    outage = Outage(clock=clock)

    logged = [outage.failed("x", kind=kind) for kind in ("down", "denied", "down", "denied")]
    clock.now += 60

    assert logged == [True, True, False, False]
    assert [outage.failed("x", kind=kind) for kind in ("down", "denied")] == [True, True]


def test_the_interval_of_reminders_can_be_set(clock: Clock) -> None:
    outage = Outage(reminder=timedelta(seconds=30), clock=clock)
    outage.failed("refused")
    clock.now += 29
    early = outage.failed("refused")
    clock.now += 1

    assert (early, outage.failed("refused")) == (False, True)


def test_one_of_many_threads_logs_the_start_and_one_logs_the_end(clock: Clock) -> None:
    outage = Outage(clock=clock)

    with ThreadPoolExecutor(16) as pool:
        starts = sum(pool.map(lambda _: outage.failed("refused"), range(500)))
        ends = sum(pool.map(lambda _: outage.recovered(), range(500)))

    assert (starts, ends) == (1, 1)
