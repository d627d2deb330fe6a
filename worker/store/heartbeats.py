"""Which workers are alive, and when each last took work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select

from worker.store.dialects import Upsert
from worker.store.tables import worker

#: A worker that was not seen for this long is forgotten.
_FORGET = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    name: str
    started_at: datetime
    seen_at: datetime
    claimed_at: datetime | None


class Heartbeats:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, heartbeat: Heartbeat) -> None:
        """Say that a worker lives."""
        _BEAT.execute(self._connection, [asdict(heartbeat)])
        self._connection.execute(delete(worker).where(worker.c.seen_at < heartbeat.seen_at - _FORGET))

    def leave(self, name: str) -> None:
        """A worker that stops in order takes its row along."""
        self._connection.execute(delete(worker).where(worker.c.name == name))

    def all(self) -> list[Heartbeat]:
        rows = self._connection.execute(
            select(worker.c.name, worker.c.started_at, worker.c.seen_at, worker.c.claimed_at).order_by(worker.c.name)
        )
        return [Heartbeat(*row) for row in rows]


_COLUMNS = ("name", "started_at", "seen_at", "claimed_at")
_BEAT = Upsert(worker, _COLUMNS, lambda _stored, new: [(name, new[name]) for name in _COLUMNS[1:]])
