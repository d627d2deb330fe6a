"""Who alone may do something, until when."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, bindparam, insert, select, update

from worker.store.dialects import clock
from worker.store.tables import lease


class Leases:
    """Works inside the caller's transaction: a lease counts once that commits, and ends by the database's clock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = clock(connection.dialect.name)

    def take(self, name: str, holder: str, length: timedelta) -> bool:
        """Hold `name` for `length` from now; False where another holder's time is not over yet."""
        row = self._connection.execute(_READ.add_columns(self._clock.label("now")), {"n": name}).one_or_none()
        if row is None:
            # Of two that come first together one loses the race for the key, and begins again.
            self._connection.execute(insert(lease), {"name": name, "holder": holder, "until_us": 0})
            return self.take(name, holder, length)
        if row.holder != holder and row.until_us > row.now:
            return False
        until = int(row.now) + length // timedelta(microseconds=1)
        self._connection.execute(_WRITE, {"n": name, "holder": holder, "until": until})
        return True

    def release(self, name: str, holder: str) -> None:
        """Let the next one in at once; does nothing where another took over meanwhile."""
        self._connection.execute(_RELEASE, {"n": name, "h": holder})


_READ = select(lease.c.holder, lease.c.until_us).where(lease.c.name == bindparam("n")).with_for_update()
_WRITE = update(lease).where(lease.c.name == bindparam("n")).values(holder=bindparam("holder"), until_us=bindparam("until"))
_RELEASE = update(lease).where(lease.c.name == bindparam("n"), lease.c.holder == bindparam("h")).values(until_us=0)
