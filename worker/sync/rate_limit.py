"""A turn to call VOD, in an account's shared rate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from worker.store import Store
from worker.store.rate_limit import RateLimiter, Slot


def acquire(
    store: Store, bucket: str, operation: str, *, per_second: float, patience: timedelta, sleep: Callable[[float], object]
) -> Slot | timedelta:
    """Wait for a slot, whose own time may be a moment ahead; or say how long it would take where that exceeds `patience`."""
    while True:
        slot = store.transact(lambda connection: RateLimiter(connection).take(bucket, operation, per_second=per_second))
        if isinstance(slot, Slot):
            return slot
        if slot > patience:
            return slot
        patience -= slot
        sleep(slot.total_seconds())
