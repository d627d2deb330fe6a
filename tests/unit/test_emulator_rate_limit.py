"""The rate limit holds in any second, and every call is counted."""

from __future__ import annotations

from worker.emulator.api.call_stats import CallStats
from worker.emulator.api.rate_limit import RateLimiter


def test_calls_beyond_the_limit_are_refused_until_the_window_has_moved() -> None:
    quota = RateLimiter(2)

    taken = [quota.acquire(now) for now in (0.0, 0.6, 0.9, 1.0, 1.1, 1.6)]

    assert taken == [True, True, False, True, False, True]


def test_refused_calls_do_not_count_against_the_limit() -> None:
    quota = RateLimiter(1)
    quota.acquire(0.0)

    refused = [quota.acquire(now / 10) for now in range(1, 10)]

    assert not any(refused)
    assert quota.acquire(1.0)


def test_zero_means_no_limit() -> None:
    quota = RateLimiter(0)

    assert all(quota.acquire(0.0) for _ in range(1000))


def test_calls_are_counted_by_size_repetition_and_busiest_second() -> None:
    calls = CallStats()

    calls.record_call(["a", "b", "a"], now=0.0)
    calls.record_call(["c"], now=0.5)
    calls.record_call([], now=0.9)
    calls.record_call(["d"], now=1.2)
    calls.record_error("Throttling.User")
    calls.record_error("InvalidParameter")

    assert calls.as_dict() == {
        "calls": 4,
        "media_ids": 5,
        "throttled": 1,
        "errors": 1,
        "largest_batch": 3,
        "repeated_in_call": 1,
        "busiest_second": 3,
    }
