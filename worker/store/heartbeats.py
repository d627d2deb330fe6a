"""Store which workers are alive, and when each last claimed work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select

from worker.store.dialects import Upsert
from worker.store.tables import worker

#: The row of a worker without a heartbeat for this long is deleted.
DELETE_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One row of vod_worker, by the database's clock. `claimed_at` is None until the worker claims work."""

    name: str
    started_at: datetime
    seen_at: datetime
    claimed_at: datetime | None
    #: How far the clock of the worker's machine is ahead of the database's. None: written by a release that did not measure it.
    clock_ahead_seconds: int | None = None

    @property
    def host(self) -> str:
        return self.name.rpartition(":")[0]


class Heartbeats:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, heartbeat: Heartbeat) -> None:
        """Store a heartbeat, and delete the rows of workers that are long gone."""
        _BEAT.execute(self._connection, [asdict(heartbeat)])
        self._connection.execute(delete(worker).where(worker.c.seen_at < heartbeat.seen_at - DELETE_AFTER))

    def remove(self, name: str) -> None:
        """Delete the row of a worker that shuts down cleanly."""
        self._connection.execute(delete(worker).where(worker.c.name == name))

    def all(self) -> list[Heartbeat]:
        """Return the last heartbeat of each worker, in the order of their names."""
        rows = self._connection.execute(select(*(worker.c[name] for name in _COLUMNS)).order_by(worker.c.name))
        return [Heartbeat(*row) for row in rows]


_COLUMNS = ("name", "started_at", "seen_at", "claimed_at", "clock_ahead_seconds")
_BEAT = Upsert(worker, _COLUMNS, lambda _stored, new: [(name, new[name]) for name in _COLUMNS[1:]])
