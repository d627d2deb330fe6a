"""What the rate limit stores about back-offs and late calls, on each of the three databases."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from tests.builders import SECOND
from worker.core.wait import Wait
from worker.store import Store
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter, Slot
from worker.store.tables import quota


def back_off(store: Store, pause: timedelta, fault: str) -> None:
    store.transact(lambda connection: RateLimiter(connection).back_off("default", BATCH_GET_MEDIA_INFOS, pause, fault=fault))


def take(store: Store, *, calls: int = 1) -> Slot | Wait:
    return store.transact(
        lambda connection: RateLimiter(connection).take("default", BATCH_GET_MEDIA_INFOS, per_second=5, calls=calls)
    )


def started_calls(store: Store) -> list[int]:
    """Return the start times of the last calls, in microseconds."""
    with store.reading() as connection:
        return list(connection.execute(select(quota.c.started_us)).scalar_one())


def test_a_shorter_back_off_does_not_end_a_longer_one(store: Store) -> None:
    back_off(store, 300 * SECOND, "Forbidden.RAM")
    back_off(store, 1 * SECOND, "Throttling.User")

    wait = take(store)

    with store.reading() as connection:
        (stored,) = RateLimiter(connection).back_offs()
    assert isinstance(wait, Wait)
    assert wait.duration > 200 * SECOND
    assert stored.fault == "Throttling.User"


def test_a_longer_back_off_extends_a_shorter_one(store: Store) -> None:
    back_off(store, 1 * SECOND, "Throttling.User")
    back_off(store, 300 * SECOND, "Forbidden.RAM")

    wait = take(store)

    assert isinstance(wait, Wait)
    assert wait.duration > 200 * SECOND


def test_calls_are_stored_in_the_order_in_which_they_started(store: Store) -> None:
    """The next slot waits for the earliest of the stored calls, which comes first."""
    first = take(store, calls=5)
    assert isinstance(first, Slot)
    planned = started_calls(store)
    late = {first.at: first.at + 0.9 * SECOND}

    store.transact(lambda connection: RateLimiter(connection).adjust_started("default", BATCH_GET_MEDIA_INFOS, late))

    assert len(planned) == 5
    assert started_calls(store) == [*planned[1:], planned[0] + 900_000]
