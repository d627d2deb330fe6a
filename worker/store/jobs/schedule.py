"""Read and write vod_schedule: when work that is repeated at intervals is due next."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, insert, select, update

from worker.store.tables import schedule


class Schedule:
    """The table vod_schedule. Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def advance_if_due(self, source: str, name: str, interval: timedelta, *, now: datetime, at_once: bool = False) -> bool:
        """Return True if `name` is due, and make it due again an interval later. Of several workers, one receives True.

        The first call for a name starts its first interval and returns `at_once`. A restart of the workers starts no interval,
        because the time is stored.
        """
        due_at = self._connection.execute(select(schedule.c.due_at).where(_row(source, name)).with_for_update()).scalar()
        if due_at is None:
            self._connection.execute(insert(schedule), {"source": source, "name": name, "due_at": now + interval})
            return at_once
        if now < due_at <= now + interval:
            return False
        self._set_due(source, name, now + interval)
        # A time more than an interval away was stored before the interval was made shorter: it is replaced, and not due.
        return bool(due_at <= now)

    def reschedule(self, source: str, name: str, *, at: datetime) -> None:
        """Make `name` due at that time, because part of its work is left."""
        self._set_due(source, name, at)

    def _set_due(self, source: str, name: str, at: datetime) -> None:
        self._connection.execute(update(schedule).where(_row(source, name)).values(due_at=at))


def _row(source: str, name: str) -> ColumnElement[bool]:
    return (schedule.c.source == source) & (schedule.c.name == name)
