"""One thread answers everybody: whoever works for long lets the others go on now and then."""

from __future__ import annotations

import asyncio
import time

#: Seconds of work after which somebody else may go on; when a call arrives is known no more exactly than that.
_TURN = 0.002


class CooperativeYield:
    """Lets others go on while something long is worked out."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def __call__(self) -> None:
        if time.perf_counter() - self._since > _TURN:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
