"""Share one rate limit between all workers: a row per source and operation contains when calls started and may start."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from worker.core.wait import Wait
from worker.store.dialects import clock
from worker.store.tables import quota

#: The operation that sync requests wait for.
BATCH_GET_MEDIA_INFOS = "BatchGetMediaInfos"

#: Not an operation: under this name, a worker records that it started without credentials for a source.
CREDENTIALS = "credentials"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: The share of the configured rate that is used, so that network jitter does not put one call too many into a second at VOD.
USED_SHARE = 0.967

#: The number of start times that are stored. The rate is kept over this many calls; the distances within them may vary.
MAX_STARTED = 20

#: How far ahead a slot may be reserved. A longer wait would keep a batch claimed that could still fill.
MAX_AHEAD = timedelta(milliseconds=50)

#: The longest back-off. A time further ahead was written before the database's clock was set back, and is ignored.
MAX_BACK_OFF = timedelta(minutes=6)


@dataclass(frozen=True, slots=True)
class Slot:
    """Permission for one call at the time `at` of the database's clock. `probing`: the calls before it failed."""

    at: datetime
    #: The same time by this process's monotonic clock, in seconds.
    due: float
    probing: bool = False

    @property
    def wait(self) -> timedelta:
        """The time from now until the slot; the time that the commit took is already subtracted."""
        return timedelta(seconds=max(0.0, self.due - time.monotonic()))

    def late(self, at: float | None = None) -> timedelta:
        """Return how late a call at the monotonic time `at`, or now, is for this slot."""
        return timedelta(seconds=max(0.0, (time.monotonic() if at is None else at) - self.due))


@dataclass(frozen=True, slots=True)
class BackOff:
    """A source whose calls fail: the last error, its time, and when the next call may start."""

    source: str
    operation: str
    fault: str
    fault_at: datetime
    until: datetime


class _State(NamedTuple):
    """A row of vod_quota, and the database's time when it was read."""

    now: datetime
    next_at: datetime
    started: list[datetime]
    fault: str | None


class RateLimiter:
    """Works inside the caller's transaction: a slot is reserved once that commits. All times are those of the database's clock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = clock(connection.dialect.name)

    def take(self, source: str, operation: str, *, per_second: float, calls: int = 1) -> Slot | Wait:
        """Reserve the next slot, or return a Wait until this may succeed.

        With `calls`, the slot is the first of that number, and the caller spaces them evenly at `per_second`.
        """
        now, next_at, started, fault = self._read(source, operation)
        read_at = time.monotonic()
        at = max(now, next_at if next_at - now <= MAX_BACK_OFF else now)
        spacing = timedelta(seconds=1 / per_second)
        window_size = max(1, min(MAX_STARTED, int(per_second)))
        window = spacing * window_size / USED_SHARE
        # Start times further ahead were written before the clock was set back.
        recent = [start for start in started if start - now <= window + MAX_AHEAD][-window_size:]
        # A call may start one window after the call that is `window_size` places before it.
        for call, start in enumerate(recent, start=window_size - len(recent)):
            if call < calls:
                at = max(at, start + window - call * spacing)
        wait = at - now
        if wait > MAX_AHEAD:
            return Wait(wait - MAX_AHEAD)
        starts = recent + [at + call * spacing for call in range(calls)]
        self._write(source, operation, at + calls * spacing, starts[-MAX_STARTED:])
        return Slot(at=at, due=read_at + wait.total_seconds(), probing=fault is not None)

    def adjust_started(self, source: str, operation: str, started: Mapping[datetime, datetime]) -> None:
        """Replace start times: the call of a slot (key) really started at another time (value)."""
        if started:
            state = self._read(source, operation)
            self._write(source, operation, state.next_at, sorted(started.get(at, at) for at in state.started))

    def back_off(self, source: str, operation: str, pause: timedelta, *, fault: str) -> None:
        """Let no worker call this operation of this source for `pause`, because of the error `fault`."""
        state = self._read(source, operation)
        self._write(source, operation, max(state.next_at, state.now + pause), state.started)
        self._connection.execute(_SET_FAULT, _key(source, operation) | {"new_fault": fault, "at": state.now})

    def record_error(self, source: str, operation: str, fault: str) -> None:
        """Store an error without a pause, for a failed call or for missing credentials. An existing pause does not change."""
        now = self._read(source, operation).now
        self._connection.execute(_SET_FAULT, _key(source, operation) | {"new_fault": fault, "at": now})

    def clear_error(self, source: str, operation: str) -> None:
        """Delete the error, because VOD answered again."""
        self._connection.execute(_SET_FAULT, _key(source, operation) | {"new_fault": None, "at": None})

    def retry_now(self) -> None:
        """End the pauses of all back-offs: the process that just started may have other credentials."""
        self._connection.execute(_RETRY_NOW)

    def back_offs(self) -> list[BackOff]:
        """Return the sources and operations whose calls fail, in the order of their names."""
        return [BackOff(*row[:4], until=_time(row.next_at_us)) for row in self._connection.execute(_BACK_OFFS)]

    def _read(self, source: str, operation: str) -> _State:
        """Lock and return the row, and insert it if there is none."""
        row = self._connection.execute(_READ.add_columns(self._clock), _key(source, operation)).one_or_none()
        if row is None:
            self._connection.execute(insert(quota), {"source": source, "operation": operation, "next_at_us": 0})
            return self._read(source, operation)
        return _State(_time(row[3]), _time(row.next_at_us), [_time(start) for start in row.started_us or ()], row.fault)

    def _write(self, source: str, operation: str, next_at: datetime, started: list[datetime]) -> None:
        values = {"next": _microseconds(next_at), "started": [_microseconds(start) for start in started]}
        self._connection.execute(_WRITE, _key(source, operation) | values)


def _key(source: str, operation: str) -> dict[str, Any]:
    return {"key_source": source, "key_operation": operation}


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


_IS_KEY = and_(quota.c.source == bindparam("key_source"), quota.c.operation == bindparam("key_operation"))

_READ = select(quota.c.next_at_us, quota.c.started_us, quota.c.fault).where(_IS_KEY).with_for_update()
_WRITE = update(quota).where(_IS_KEY).values(next_at_us=bindparam("next"), started_us=bindparam("started"))
_SET_FAULT = update(quota).where(_IS_KEY).values(fault=bindparam("new_fault"), fault_at=bindparam("at"))
_RETRY_NOW = update(quota).where(quota.c.fault.is_not(None)).values(next_at_us=0)
_BACK_OFFS = (
    select(quota.c.source, quota.c.operation, quota.c.fault, quota.c.fault_at, quota.c.next_at_us)
    .where(quota.c.fault.is_not(None))
    .order_by(quota.c.source, quota.c.operation)
)
