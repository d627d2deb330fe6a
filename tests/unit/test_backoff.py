"""The pauses between retries."""

from __future__ import annotations

from datetime import timedelta

import pytest

from worker.core.backoff import FULL_JITTER, HALF_JITTER, Backoff, FailureCounter


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(seconds(1), seconds(10))

    pauses = [backoff.delay(failures) for failures in range(1, 7)]

    assert pauses == [seconds(count) for count in (1, 2, 4, 8, 10, 10)]


def test_the_pause_after_zero_failures_is_the_first_pause() -> None:
    assert Backoff(seconds(1), seconds(10)).delay(0) == seconds(1)


def test_the_longest_pause_applies_after_any_number_of_failures() -> None:
    assert Backoff(seconds(0.001), timedelta(days=365_000)).delay(10**9) == timedelta(days=365_000)


def test_pauses_grow_by_the_factor() -> None:
    assert Backoff(seconds(1), seconds(100), factor=3).delay(4) == seconds(27)


@pytest.mark.parametrize(
    ("jitter", "random", "pause"),
    [(FULL_JITTER, 0.0, 0), (FULL_JITTER, 0.25, 1), (FULL_JITTER, 1.0, 4), (HALF_JITTER, 0.0, 2), (HALF_JITTER, 1.0, 4)],
)
def test_jitter_shortens_a_pause(jitter: float, random: float, pause: float) -> None:
    assert Backoff(seconds(1), seconds(60), jitter=jitter, random=lambda: random).delay(3) == seconds(pause)


def test_the_longest_pause_is_jittered_too() -> None:
    backoff = Backoff(seconds(1), seconds(4), jitter=HALF_JITTER, random=lambda: 0.0)

    assert (backoff.upper_limit(9), backoff.delay(9)) == (seconds(4), seconds(2))


def test_a_success_starts_again_from_the_first_pause() -> None:
    counter = FailureCounter(Backoff(seconds(1), seconds(10)))

    pauses_before = [counter.failed(), counter.failed()]
    counter.reset()
    pause_after = counter.failed()

    assert pauses_before == [seconds(1), seconds(2)]
    assert (pause_after, counter.failures) == (seconds(1), 1)
