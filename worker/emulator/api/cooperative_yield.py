"""Let other tasks of the event loop run during a long computation."""

from __future__ import annotations

import asyncio
import time

#: Seconds of work between two yields. This is also the precision with which the arrival of a call is known.
_YIELD_INTERVAL = 0.002


class CooperativeYield:
    """Await an instance in every round of a long loop: it yields to other tasks at intervals."""

    def __init__(self) -> None:
        self._resumed_at = time.perf_counter()

    async def __call__(self) -> None:
        """Yield to other tasks if this one has run for longer than the interval."""
        if time.perf_counter() - self._resumed_at > _YIELD_INTERVAL:
            await asyncio.sleep(0)
            self._resumed_at = time.perf_counter()
