"""A clock that stands still while the machine does: a virtual machine waits for seconds where its host serves others first."""

from __future__ import annotations

import functools
import threading
import time

#: Seconds between two ticks, and what a tick may take without being called a standstill.
_TICK, _LATE = 0.01, 0.05


class _Ticker:
    def __init__(self) -> None:
        self._lost = 0.0
        self._last = time.monotonic()
        threading.Thread(target=self._run, name="ticker", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            if now - self._last > _LATE:
                self._lost += now - self._last - _TICK
            self._last = now

    def seconds(self) -> float:
        now, last = time.monotonic(), self._last
        return (last if now - last > _LATE else now) - self._lost


@functools.cache
def _ticker() -> _Ticker:
    return _Ticker()


def seconds() -> float:
    """Seconds, of which only differences mean something, like those of `time.monotonic`; never more than have passed."""
    return _ticker().seconds()
