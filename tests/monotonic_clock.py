"""A clock that does not count the time in which the whole machine is stopped: a host may pause a virtual machine for seconds."""

from __future__ import annotations

import functools
import threading
import time

TICK = 0.01  # seconds between two ticks
MAX_TICK = 0.05  # seconds; a longer tick means that the machine was stopped


class _Ticker:
    def __init__(self) -> None:
        self._lost = 0.0
        self._last = time.monotonic()
        threading.Thread(target=self._run, name="ticker", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            now = time.monotonic()
            if now - self._last > MAX_TICK:
                self._lost += now - self._last - TICK
            self._last = now

    def seconds(self) -> float:
        now, last = time.monotonic(), self._last
        return (last if now - last > MAX_TICK else now) - self._lost


@functools.cache
def _ticker() -> _Ticker:
    return _Ticker()


def seconds() -> float:
    """Return seconds like `time.monotonic`: only differences are meaningful. A difference is never longer than the real time."""
    return _ticker().seconds()
