"""Claim named leases: permission to be the only process that does something, for a limited time."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, bindparam, insert, select, update

from worker.store.dialects import clock
from worker.store.tables import lease


class Leases:
    """Works inside the caller's transaction. A lease is valid once that commits, and expires by the database's clock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = clock(connection.dialect.name)

    def claim(self, name: str, holder: str, duration: timedelta) -> bool:
        """Claim or extend the lease `name` for `duration` from now. Return False if another holder has it."""
        row = self._connection.execute(_READ.add_columns(self._clock.label("now")), {"lease_name": name}).one_or_none()
        if row is None:
            # If two processes insert at the same time, one fails at the primary key and its transaction is repeated.
            self._connection.execute(insert(lease), {"name": name, "holder": holder, "until_us": 0})
            return self.claim(name, holder, duration)
        if row.holder != holder and row.until_us > row.now:
            return False
        until = int(row.now) + duration // timedelta(microseconds=1)
        self._connection.execute(_WRITE, {"lease_name": name, "new_holder": holder, "until": until})
        return True

    def release(self, name: str, holder: str) -> None:
        """End the lease now. Does nothing if another process has claimed it since."""
        self._connection.execute(_RELEASE, {"lease_name": name, "old_holder": holder})


_IS_NAMED = lease.c.name == bindparam("lease_name")
_READ = select(lease.c.holder, lease.c.until_us).where(_IS_NAMED).with_for_update()
_WRITE = update(lease).where(_IS_NAMED).values(holder=bindparam("new_holder"), until_us=bindparam("until"))
_RELEASE = update(lease).where(_IS_NAMED, lease.c.holder == bindparam("old_holder")).values(until_us=0)
