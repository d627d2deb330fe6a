"""How the installation is doing, in numbers and in sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from worker.store.quota import Held, Quota
from worker.store.tables import media, notification, sync_request
from worker.store.workers import Heartbeat, Workers

#: A worker that did not speak for so long is called silent; work that is due for so long is not being done.
_SILENT = timedelta(minutes=1)
_OVERDUE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sync requests by what they wait for. `oldest_due_age` is in seconds, 0 where nothing is due."""

    due: int
    waiting: int
    dead: int
    oldest_due_age: float


@dataclass(frozen=True, slots=True)
class Overview:
    """`seen_at` is the moment it was true."""

    seen_at: datetime
    backlog: Backlog
    media: dict[str, int]
    notifications: int
    workers: list[Heartbeat]
    held: list[Held]

    def alive(self, worker: Heartbeat) -> bool:
        return self.seen_at - worker.seen_at <= _SILENT

    @property
    def problems(self) -> list[str]:
        """What somebody should look at, in sentences that name the next step."""
        found = [
            f"source {held.source}: {held.fault} (since {held.fault_at:%H:%M:%S} UTC; asked again at {held.until:%H:%M:%S})"
            for held in self.held
        ]
        if self.backlog.oldest_due_age > _OVERDUE.total_seconds() and not self.held:
            overdue = f"{self.backlog.due} sync requests are due, the oldest for {self.backlog.oldest_due_age:.0f} s"
            alive = [worker for worker in self.workers if self.alive(worker)]
            if not alive:
                found.append(f"{overdue}, and no worker is alive; start one with: vodsync work")
            elif all(worker.claimed_at is None or self.seen_at - worker.claimed_at > _OVERDUE for worker in alive):
                found.append(f"{overdue}, and no worker takes them; look at the workers' logs and start them again")
        if self.backlog.dead:
            found.append(f"{self.backlog.dead} dead letters; look at them with: vodsync failures list")
        return found

    def as_json(self) -> dict[str, Any]:
        """The same for programs; what `vodsync status --json` and /statusz have in common."""
        return {
            "backlog": {"due": self.backlog.due, "waiting": self.backlog.waiting},
            "oldest_due_age_seconds": self.backlog.oldest_due_age,
            "dead_letters": self.backlog.dead,
            "media": self.media,
            "notifications": self.notifications,
            "workers": [asdict(each) | {"state": "ok" if self.alive(each) else "silent"} for each in self.workers],
            "held_back": [asdict(each) for each in self.held],
            "problems": self.problems,
        }


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
        seen_at=now,
        backlog=backlog(connection, now=now),
        media=dict(states),
        notifications=connection.execute(select(func.count()).select_from(notification)).scalar_one(),
        workers=Workers(connection).all(),
        held=Quota(connection).held(),
    )
