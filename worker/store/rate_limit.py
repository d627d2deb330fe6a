"""One rate limit for all workers: a row per source and operation says when the last calls started, and when the next one may."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from worker.core.wait import Wait
from worker.store.dialects import clock
from worker.store.tables import quota

#: The operation that sync requests wait for.
BATCH = "BatchGetMediaInfos"

#: No operation, but what is said of a source that a worker started without.
CREDENTIALS = "credentials"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: The share of the configured rate that we use, so that jitter on the way to VOD never puts one call too many into a second.
_SHARE = 0.967

#: So many calls have to take as long as the rate says, counted from when they really started; between them it may jitter.
_REMEMBERED = 20

#: A slot may be reserved this far ahead; further ahead it would hold a batch that could still fill.
_AHEAD = timedelta(milliseconds=50)

#: Nobody is held back for longer; what lies further ahead was written before the database's clock was set back.
_LONGEST = timedelta(minutes=6)


@dataclass(frozen=True, slots=True)
class Slot:
    """Permission for one call, at `at` by the database's clock. `probing`: the calls before it failed."""

    at: datetime
    #: `at` by this process's monotonic clock, in seconds.
    due: float
    probing: bool = False

    @property
    def wait(self) -> timedelta:
        """How long until then; what the commit took counts."""
        return timedelta(seconds=max(0.0, self.due - time.monotonic()))

    def late(self, at: float | None = None) -> timedelta:
        """How long the call should have started before `at`, or before now."""
        return timedelta(seconds=max(0.0, (time.monotonic() if at is None else at) - self.due))


@dataclass(frozen=True, slots=True)
class BackOff:
    """A source whose calls VOD does not answer, why, and when it said so last."""

    source: str
    operation: str
    fault: str
    fault_at: datetime
    until: datetime


class _State(NamedTuple):
    """A row as it is now: when the next call may start, when the last ones did, and why calls are held back."""

    now: datetime
    next_at: datetime
    started: list[datetime]
    fault: str | None


class RateLimiter:
    """Works inside the caller's transaction: a slot counts once that commits. All times are those of the database's clock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = clock(connection.dialect.name)

    def take(self, source: str, operation: str, *, per_second: float, calls: int = 1) -> Slot | Wait:
        """Reserve the next slot, or say how long to wait before asking again.

        With `calls` it is the first of so many, and the caller spaces them evenly at `per_second`.
        """
        now, next_at, started, fault = self._read(source, operation)
        read_at = time.monotonic()
        spacing = timedelta(seconds=1 / per_second)
        at = max(now, next_at if next_at - now <= _LONGEST else now)
        most = max(1, min(_REMEMBERED, int(per_second)))
        span = spacing * most / _SHARE
        recent = [each for each in started if each - now <= span + _AHEAD][-most:]
        for call, before in enumerate(recent, start=most - len(recent)):
            if call < calls:
                at = max(at, before + span - call * spacing)
        wait = at - now
        if wait > _AHEAD:
            return Wait(wait - _AHEAD)
        starts = recent + [at + call * spacing for call in range(calls)]
        self._write(source, operation, at + calls * spacing, starts[-_REMEMBERED:])
        return Slot(at=at, due=read_at + wait.total_seconds(), probing=fault is not None)

    def adjust_started(self, source: str, operation: str, started: Mapping[datetime, datetime]) -> None:
        """Calls that should have started at the one time started at the other."""
        if started:
            state = self._read(source, operation)
            self._write(source, operation, state.next_at, sorted(started.get(at, at) for at in state.started))

    def back_off(self, source: str, operation: str, pause: timedelta, *, fault: str) -> None:
        """Nobody calls this operation of this source for `pause`, because VOD said `fault`."""
        state = self._read(source, operation)
        self._write(source, operation, max(state.next_at, state.now + pause), state.started)
        self._connection.execute(_FAULT, {"s": source, "o": operation, "fault": fault, "at": state.now})

    def record_error(self, source: str, operation: str, fault: str) -> None:
        """The calls still fail, by now because of `fault`; this holds nobody back."""
        now = self._read(source, operation).now
        self._connection.execute(_FAULT, {"s": source, "o": operation, "fault": fault, "at": now})

    def release(self, source: str, operation: str) -> None:
        """VOD answered again."""
        self._connection.execute(_FAULT, {"s": source, "o": operation, "fault": None, "at": None})

    def retry_now(self) -> None:
        """Let calls that are held back be tried at once: whoever just started may have other keys."""
        self._connection.execute(_PROBE)

    def back_offs(self) -> list[BackOff]:
        rows = self._connection.execute(_HELD)
        return [BackOff(*row[:4], until=_time(row.next_at_us)) for row in rows]

    def _read(self, source: str, operation: str) -> _State:
        row = self._connection.execute(_READ.add_columns(self._clock), {"source": source, "operation": operation}).one_or_none()
        if row is None:
            self._connection.execute(insert(quota), {"source": source, "operation": operation, "next_at_us": 0})
            return self._read(source, operation)
        return _State(_time(row[3]), _time(row.next_at_us), [_time(each) for each in row.started_us or ()], row.fault)

    def _write(self, source: str, operation: str, next_at: datetime, started: list[datetime]) -> None:
        values = {"at": _microseconds(next_at), "started": [_microseconds(each) for each in started]}
        self._connection.execute(_WRITE, {"s": source, "o": operation} | values)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


_READ = (
    select(quota.c.next_at_us, quota.c.started_us, quota.c.fault)
    .where(quota.c.source == bindparam("source"), quota.c.operation == bindparam("operation"))
    .with_for_update()
)
_WRITE = (
    update(quota)
    .where(quota.c.source == bindparam("s"), quota.c.operation == bindparam("o"))
    .values(next_at_us=bindparam("at"), started_us=bindparam("started"))
)
_FAULT = (
    update(quota)
    .where(quota.c.source == bindparam("s"), quota.c.operation == bindparam("o"))
    .values(fault=bindparam("fault"), fault_at=bindparam("at"))
)
_PROBE = update(quota).where(quota.c.fault.is_not(None)).values(next_at_us=0)
_HELD = (
    select(quota.c.source, quota.c.operation, quota.c.fault, quota.c.fault_at, quota.c.next_at_us)
    .where(quota.c.fault.is_not(None))
    .order_by(quota.c.source, quota.c.operation)
)
