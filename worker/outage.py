"""Decide when to log a condition that lasts: when it starts, once a minute while it lasts, and when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta


class Outage:
    """The state of one dependency, such as the broker. Safe for several threads. The caller logs:

        if outage.failed(str(error)):
            log.warning("broker does not take wake-ups; the sweep finds the work", error=str(error))
        …
        if outage.recovered():
            log.info("broker takes wake-ups again")

    `clock` returns seconds, like `time.monotonic`.
    """

    def __init__(self, *, reminder: timedelta = timedelta(minutes=1), clock: Callable[[], float] = time.monotonic) -> None:
        self._reminder = reminder.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._error: str | None = None
        #: When each kind of failure was logged last, by `clock`.
        self._logged_at: dict[str, float] = {}
        #: How many failures of each kind were not logged since then.
        self._unlogged: dict[str, int] = {}
        #: How many failures were not logged between the last two that were, for the line of the last one.
        self.unlogged = 0

    @property
    def error(self) -> str | None:
        """The latest error; None if there is no outage."""
        return self._error

    @property
    def active(self) -> bool:
        """True from the first failure until `recovered` is called."""
        return self._error is not None

    def failed(self, error: str, *, kind: str = "") -> bool:
        """Record a failure. Return True if it should be logged now: it is the first one, or the last one was logged a minute ago.

        Failures that need different action (the broker is down, the broker refuses the password) have a `kind` each. The first
        failure of each kind is logged at once.
        """
        with self._lock:
            self._error = error
            now = self._clock()
            logged_at = self._logged_at.get(kind)
            if logged_at is not None and now - logged_at < self._reminder:
                self._unlogged[kind] = self._unlogged.get(kind, 0) + 1
                return False
            self._logged_at[kind] = now
            self.unlogged = self._unlogged.pop(kind, 0)
            return True

    def recovered(self) -> bool:
        """Record a success. Return True if it ends an outage, so that the end should be logged."""
        with self._lock:
            ended = self._error is not None
            self._error = None
            self._logged_at.clear()
            self.unlogged = sum(self._unlogged.values())
            self._unlogged.clear()
            return ended
