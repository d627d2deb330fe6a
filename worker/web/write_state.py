"""Know whether notifications can be stored: from what happened to the last ones, and by trying while none arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from worker import logs
from worker.core.errors import StoreUnavailableError
from worker.outage import Outage

log = logs.get(__name__)

CHECK_INTERVAL = 10.0  # seconds without a commit, after which `check` tries a write
RETRY_INTERVAL = 0.5  # seconds between two tries while notifications cannot be stored


class WriteState:
    """`try_write` writes something and raises StoreUnavailableError if it cannot. Safe for several threads."""

    def __init__(self, try_write: Callable[[], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._try_write = try_write
        self._clock = clock
        self._outage = Outage()
        self._known_at = clock() - CHECK_INTERVAL
        self._trying = threading.Lock()

    @property
    def error(self) -> str | None:
        """Why the last notifications could not be stored; None if they were."""
        return self._outage.error

    def succeeded(self) -> None:
        """Record that notifications, or a try, are durable."""
        self._known_at = self._clock()
        if self._outage.active and self._outage.recovered():
            log.info("notifications are stored again", unlogged=self._outage.unlogged)

    def failed(self, error: StoreUnavailableError, *, count: int = 1) -> None:
        """Record that `count` notifications could not be stored; 0 for a try."""
        self._known_at = self._clock()
        if self._outage.failed(str(error)):
            log.error("notifications cannot be stored", error=str(error), count=count, unlogged=self._outage.unlogged)

    def check(self) -> None:
        """Raises StoreUnavailableError if notifications cannot be stored now. Tries a write if that is not known."""
        interval = RETRY_INTERVAL if self._outage.active else CHECK_INTERVAL
        if self._clock() - self._known_at >= interval and self._trying.acquire(blocking=False):
            try:
                self._try_write()
            except StoreUnavailableError as error:
                self.failed(error, count=0)
            else:
                self.succeeded()
            finally:
                self._trying.release()
        error_text = self.error
        if error_text is not None:
            raise StoreUnavailableError(error_text)
