"""Call a function repeatedly on a thread of its own, until the process stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from worker import logs
from worker.core.errors import describe_error
from worker.outage import Outage

log = logs.get(__name__)


class BackgroundLoop:
    """A daemon thread that calls `step` until `stop`. `step` returns the seconds until its next call.

    An exception does not end the thread. It is logged as `failure` (with its traceback, at most once a minute for each type in a
    row), and `step` is called again after `retry_delay` seconds.
    `interrupt` is called by `stop`, to end a call in which `step` waits. `finish` runs last, on the thread itself.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float],
        *,
        failure: str,
        initial_delay: float = 0.0,
        retry_delay: float = 1.0,
        wake_event: threading.Event | None = None,
        interrupt: Callable[[], object] = lambda: None,
        finish: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self._step = step
        self._failure = failure
        self._initial_delay = initial_delay
        self._retry_delay = retry_delay
        self._interrupt = interrupt
        self._finish = finish
        self._stopped = threading.Event()
        self._wake_event = wake_event or threading.Event()
        self._outage = Outage()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopped.is_set()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Call `step` now instead of at the end of the current pause. During a call: once more, right after it."""
        self._wake_event.set()

    def stop(self) -> None:
        """Tell the thread to end, and return at once."""
        self._stopped.set()
        self._wake_event.set()
        self._interrupt()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, for at most `timeout` seconds. Return at once if it was never started."""
        if self._thread.is_alive():
            self._thread.join(max(0.0, timeout))

    def pause(self, seconds: float) -> bool:
        """Wait during a call of `step`. Return True if the loop is to stop; `wake` does not shorten this wait."""
        return self._stopped.wait(seconds)

    def _run(self) -> None:
        delay = self._initial_delay
        while True:
            if delay > 0:
                self._wake_event.wait(delay)
            self._wake_event.clear()
            if self._stopped.is_set():
                break
            try:
                delay = self._step()
            except Exception as error:
                delay = self._retry_delay
                if self._outage.failed(describe_error(error), kind=type(error).__name__):
                    log.error(self._failure, thread=self.name, exc_info=True)
            else:
                self._outage.recovered()
        try:
            self._finish()
        except Exception:
            log.error(self._failure, thread=self.name, exc_info=True)


def join_all(loops: list[BackgroundLoop], *, within: float) -> None:
    """Wait until all `loops` have ended, for at most `within` seconds altogether."""
    deadline = time.monotonic() + within
    for loop in loops:
        loop.join(deadline - time.monotonic())
