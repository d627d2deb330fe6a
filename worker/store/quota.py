"""One rate limit for all workers: a row per source and operation says when the next call may start (GCRA)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, insert, select, update

from worker.store.dialects import clock
from worker.store.tables import quota

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: The share of the configured rate that we use, so that jitter on the way never puts one call too many into a second.
_SHARE = 0.955

#: A slot may be reserved this far ahead; further ahead it would hold a batch that could still fill.
_AHEAD = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class Slot:
    """Permission for one call, at `at` by the database's clock, which is `wait` from now. `probing`: the calls before it failed."""

    at: datetime
    wait: timedelta
    probing: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A source whose calls VOD does not answer, why, and when it said so last."""

    source: str
    operation: str
    fault: str
    fault_at: datetime
    until: datetime


class Quota:
    """Works inside the caller's transaction: a slot counts once that commits. All times are those of the database's clock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = clock(connection.dialect.name)

    def take(self, source: str, operation: str, *, per_second: float) -> Slot | timedelta:
        """Reserve the next slot, or say how long to wait before asking again."""
        now, next_at, fault = self._read(source, operation)
        at = max(now, next_at)
        if at - now > _AHEAD:
            return at - now - _AHEAD
        self._write(source, operation, at + timedelta(seconds=1 / (per_second * _SHARE)))
        return Slot(at=at, wait=at - now, probing=fault is not None)

    def hold_back(self, source: str, operation: str, pause: timedelta, *, fault: str) -> None:
        """Nobody calls this operation of this source for `pause`, because VOD said `fault`."""
        now, next_at, _ = self._read(source, operation)
        self._write(source, operation, max(next_at, now + pause))
        self._connection.execute(_FAULT, {"s": source, "o": operation, "fault": fault, "at": now})

    def release(self, source: str, operation: str) -> None:
        """VOD answered again."""
        self._connection.execute(_FAULT, {"s": source, "o": operation, "fault": None, "at": None})

    def probe(self) -> None:
        """Let calls that are held back be tried at once: whoever just started may have other keys."""
        self._connection.execute(_PROBE)

    def held(self) -> list[Held]:
        rows = self._connection.execute(_HELD)
        return [Held(*row[:4], until=_time(row.next_at_us)) for row in rows]

    def _read(self, source: str, operation: str) -> tuple[datetime, datetime, str | None]:
        row = self._connection.execute(_READ.add_columns(self._clock), {"source": source, "operation": operation}).one_or_none()
        if row is None:
            self._connection.execute(insert(quota), {"source": source, "operation": operation, "next_at_us": 0})
            return self._read(source, operation)
        return _time(row[2]), _time(row[0]), row[1]

    def _write(self, source: str, operation: str, next_at: datetime) -> None:
        self._connection.execute(_WRITE, {"s": source, "o": operation, "at": (next_at - _EPOCH) // timedelta(microseconds=1)})


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))


_READ = (
    select(quota.c.next_at_us, quota.c.fault)
    .where(quota.c.source == bindparam("source"), quota.c.operation == bindparam("operation"))
    .with_for_update()
)
_WRITE = (
    update(quota).where(quota.c.source == bindparam("s"), quota.c.operation == bindparam("o")).values(next_at_us=bindparam("at"))
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
