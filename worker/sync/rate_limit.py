"""Wait for permission to call VOD within the rate that all workers of an account share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from worker.core.wait import Wait
from worker.store import Store
from worker.store.rate_limit import RateLimiter, Slot


def acquire(
    store: Store, rate_limit_name: str, operation: str, *, per_second: float, max_wait: timedelta, sleep: Callable[[float], object]
) -> Slot | Wait:
    """Return a slot, which may start a moment ahead (`Slot.wait`), or the Wait if reserving one would take longer than `max_wait`.

    `sleep` takes seconds. Raises StoreUnavailableError.
    """
    while True:
        slot = store.transact(lambda connection: RateLimiter(connection).take(rate_limit_name, operation, per_second=per_second))
        if isinstance(slot, Slot) or slot.duration > max_wait:
            return slot
        max_wait -= slot.duration
        sleep(slot.duration.total_seconds())
