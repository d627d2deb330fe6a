"""How the installation is doing, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from worker.store.tables import media, notification, sync_request
from worker.store.workers import Heartbeat, Workers


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sync requests by what they wait for. `oldest_due_age` is in seconds, 0 where nothing is due."""

    due: int
    waiting: int
    dead: int
    oldest_due_age: float


@dataclass(frozen=True, slots=True)
class Overview:
    backlog: Backlog
    media: dict[str, int]
    notifications: int
    workers: list[Heartbeat]


def backlog(connection: Connection, *, now: datetime) -> Backlog:
    """Requests that may be claimed now are `due`; leased, lingering and backed-off ones are `waiting`."""
    ready = sync_request.c.available_at <= now
    due, oldest = connection.execute(
        select(func.count(), func.min(sync_request.c.available_at)).where(sync_request.c.state == "due", ready)
    ).one()
    waiting = connection.execute(select(func.count()).where(sync_request.c.state == "due", ~ready)).scalar_one()
    dead = connection.execute(select(func.count()).where(sync_request.c.state == "dead")).scalar_one()
    age = (now - oldest).total_seconds() if oldest else 0.0
    return Backlog(due=due, waiting=waiting, dead=dead, oldest_due_age=round(age, 3))


def overview(connection: Connection, *, now: datetime) -> Overview:
    states = connection.execute(select(media.c.state, func.count()).group_by(media.c.state)).all()
    return Overview(
        backlog=backlog(connection, now=now),
        media=dict(states),
        notifications=connection.execute(select(func.count()).select_from(notification)).scalar_one(),
        workers=Workers(connection).all(),
    )
