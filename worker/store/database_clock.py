"""Know the time of the database without a query: its distance from this process's monotonic clock is measured now and then."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select

from worker.store.dialects import clock

MEASURE_INTERVAL = 10.0  # seconds between two measurements

#: If this machine's clock moves by more than this against the monotonic clock, it was set, or the machine was suspended.
MAX_JUMP = 0.1  # seconds

#: A clock that is off by more than this is a problem to report. VOD refuses calls if it is off by 15 minutes (vod-protocol 4.4).
MAX_CLOCK_SKEW = timedelta(minutes=1)

_MICROSECONDS = 1_000_000  # per second


class DatabaseClock:
    """The database's time, as this process last measured it. Safe for several threads.

    Due times, leases and heartbeats are compared by processes on several machines, whose own clocks may differ by minutes. Until
    the first measurement this machine's clock is used.
    """

    def __init__(self) -> None:
        #: The database's time minus the monotonic clock, in seconds.
        self._offset: float | None = None
        #: This machine's time minus the monotonic clock at the last measurement, in seconds.
        self._machine_offset = 0.0
        #: When the next measurement is due, by the monotonic clock.
        self._measure_at = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._seconds(), UTC)

    @property
    def machine_ahead(self) -> timedelta:
        """How far this machine's clock is ahead of the database's; negative if it is behind, 0 before the first measurement."""
        return timedelta(seconds=time.time() - self._seconds())

    def measure_if_due(self, connection: Connection) -> None:
        """Read the database's clock through `connection` if the last measurement is old, or this machine's clock was set since."""
        started = time.monotonic()
        machine_offset = time.time() - started
        if started < self._measure_at and abs(machine_offset - self._machine_offset) < MAX_JUMP:
            return
        database_time = int(connection.execute(select(clock(connection.dialect.name))).scalar_one()) / _MICROSECONDS
        # The database read its clock between the two times. What was measured before stays, as far as it agrees with this.
        least, most = database_time - time.monotonic(), database_time - started
        middle = (least + most) / 2
        self._offset = middle if self._offset is None else min(max(self._offset, least), most)
        self._machine_offset = machine_offset
        self._measure_at = started + MEASURE_INTERVAL

    def _seconds(self) -> float:
        """Return the database's time in seconds since 1970 UTC."""
        return time.time() if self._offset is None else time.monotonic() + self._offset
