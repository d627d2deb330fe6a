"""A turn to call VOD, in an account's shared rate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from worker.core.wait import Wait
from worker.store import Store
from worker.store.rate_limit import RateLimiter, Slot


def acquire(
    store: Store, bucket: str, operation: str, *, per_second: float, patience: timedelta, sleep: Callable[[float], object]
) -> Slot | Wait:
    """Wait for a slot, whose own time may be a moment ahead; or return the Wait if that would exceed `patience`."""
    while True:
        slot = store.transact(lambda connection: RateLimiter(connection).take(bucket, operation, per_second=per_second))
        if isinstance(slot, Slot):
            return slot
        if slot.duration > patience:
            return slot
        patience -= slot.duration
        sleep(slot.duration.total_seconds())
