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
    """Permission for one call, at `at` by the database's clock, which is `wait` from now."""

    at: datetime
    wait: timedelta


class Quota:
    """Works inside the caller's transaction: a slot counts once that commits. All times are those of the database's clock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = clock(connection.dialect.name)

    def take(self, source: str, operation: str, *, per_second: float) -> Slot | timedelta:
        """Reserve the next slot, or say how long to wait before asking again."""
        now, next_at = self._read(source, operation)
        at = max(now, next_at)
        if at - now > _AHEAD:
            return at - now - _AHEAD
        self._write(source, operation, at + timedelta(seconds=1 / (per_second * _SHARE)))
        return Slot(at=at, wait=at - now)

    def hold_back(self, source: str, operation: str, pause: timedelta) -> None:
        """VOD throttled a call: nobody calls this operation of this source for `pause`."""
        now, next_at = self._read(source, operation)
        self._write(source, operation, max(next_at, now + pause))

    def _read(self, source: str, operation: str) -> tuple[datetime, datetime]:
        row = self._connection.execute(_READ.add_columns(self._clock), {"source": source, "operation": operation}).one_or_none()
        if row is None:
            self._connection.execute(insert(quota), {"source": source, "operation": operation, "next_at_us": 0})
            return self._read(source, operation)
        return _time(row[1]), _time(row[0])

    def _write(self, source: str, operation: str, next_at: datetime) -> None:
        self._connection.execute(_WRITE, {"s": source, "o": operation, "at": (next_at - _EPOCH) // timedelta(microseconds=1)})


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))


_READ = (
    select(quota.c.next_at_us)
    .where(quota.c.source == bindparam("source"), quota.c.operation == bindparam("operation"))
    .with_for_update()
)
_WRITE = (
    update(quota).where(quota.c.source == bindparam("s"), quota.c.operation == bindparam("o")).values(next_at_us=bindparam("at"))
)
