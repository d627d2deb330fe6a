"""How the installation is doing, in numbers and in sentences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, true

from worker.store.heartbeats import Heartbeat, Heartbeats
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.store.outbox import Outbox, PendingChanges
from worker.store.rate_limit import BATCH, BackOff, RateLimiter
from worker.store.tables import media, notification, sync_request

#: A worker that did not speak for so long is called silent; work that is due for so long is not being done.
_SILENT = timedelta(minutes=1)
_OVERDUE = timedelta(seconds=30)

NO_WORKER = "no worker is alive; start one with: vodsync work"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sync requests by what they wait for. `oldest_due_age` is in seconds, 0 where nothing is due."""

    due: int
    waiting: int
    dead: int
    oldest_due_age: float


@dataclass(frozen=True, slots=True)
class InstallationHealth:
    """`seen_at` is the moment it was true. `changes` is None where there is no change feed."""

    seen_at: datetime
    backlog: Backlog
    media: dict[str, int]
    notifications: int
    workers: list[Heartbeat]
    back_offs: list[BackOff]
    #: The part of the backlog that belongs to sources with a description, and the requests of each other source.
    served: Backlog
    unserved: dict[str, int]
    changes: PendingChanges | None = None
    #: Long runs that do not go on.
    jobs: Sequence[Job] = ()
    #: By source, how many requests failed and are tried again, and the error of one of them.
    failing: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    #: Long runs that nobody takes.
    overdue: int = 0

    def alive(self, worker: Heartbeat) -> bool:
        return self.seen_at - worker.seen_at <= _SILENT

    @property
    def problems(self) -> list[str]:
        """What somebody should look at, in sentences that name the next step."""
        found = [
            f"source {back_off.source}, {back_off.operation}: {back_off.fault} (since {back_off.fault_at:%H:%M:%S} UTC"
            + (f"; asked again at {back_off.until:%H:%M:%S})" if back_off.until > back_off.fault_at else ")")
            for back_off in self.back_offs
        ]
        # Requests that are held back are told of above, and do not wait for a worker.
        held_back = any(back_off.operation == BATCH for back_off in self.back_offs)
        alive = [worker for worker in self.workers if self.alive(worker)]
        if self.served.oldest_due_age > _OVERDUE.total_seconds():
            overdue = f"{self.served.due} sync requests are due, the oldest for {self.served.oldest_due_age:.0f} s"
            idle = all(worker.claimed_at is None or self.seen_at - worker.claimed_at > _OVERDUE for worker in alive)
            if not alive:
                found.append(f"{overdue}, and {NO_WORKER}")
            elif idle and not held_back:
                found.append(f"{overdue}, and no worker takes them; look at the workers' logs and start them again")
        elif self.overdue and not alive:
            found.append(f"{_runs(self.overdue)}, and {NO_WORKER}")
        elif self.workers and not alive:
            found.append(f"the last one did not stop in order, and {NO_WORKER}")
        found += [
            f"{_requests(count)} to source {source}, which is not configured here (any more); describe it in vodsync.toml as "
            f"[sources.{source}], or delete its rows from vod_sync_request"
            for source, count in self.unserved.items()
        ]
        if self.backlog.dead:
            letters = "1 dead letter" if self.backlog.dead == 1 else f"{self.backlog.dead} dead letters"
            found.append(f"{letters}; look with: vodsync failures list")
        found += [
            f"{count} sync request{'s' if count > 1 else ''} of source {source} failed, to be tried again: {error}"
            for source, (count, error) in self.failing.items()
        ]
        found += [
            f"{job.kind} {job.id} of source {job.source} {'failed' if job.state == JobState.FAILED else 'is tried again'}: "
            f"{(job.last_error or '')[:1000]} (vodsync jobs show {job.id})"
            for job in self.jobs
        ]
        if self.changes and self.changes.since and self.seen_at - self.changes.since > _OVERDUE:
            found.append(
                f"{self.changes.count} changes wait since {self.changes.since:%Y-%m-%d %H:%M:%S} UTC; look at the broker, and "
                "whether workers run with VODSYNC_CHANGES=on"
            )
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
            "held_back": [asdict(each) for each in self.back_offs],
            "problems": self.problems,
        } | ({"changes": asdict(self.changes)} if self.changes else {})


def _runs(count: int) -> str:
    return "1 long run waits" if count == 1 else f"{count} long runs wait"


def _requests(count: int) -> str:
    return "1 sync request belongs" if count == 1 else f"{count} sync requests belong"


def backlog(connection: Connection, *, now: datetime, sources: Collection[str] | None = None) -> Backlog:
    """Requests that may be claimed now are `due`; leased, lingering and backed-off ones are `waiting`. Of `sources`, or of all."""
    ready = sync_request.c.available_at <= now
    ours = true() if sources is None else sync_request.c.source.in_(sorted(sources))
    due, oldest = connection.execute(
        select(func.count(), func.min(sync_request.c.available_at)).where(sync_request.c.state == "due", ready, ours)
    ).one()
    waiting = connection.execute(select(func.count()).where(sync_request.c.state == "due", ~ready, ours)).scalar_one()
    dead = connection.execute(select(func.count()).where(sync_request.c.state == "dead", ours)).scalar_one()
    age = (now - oldest).total_seconds() if oldest else 0.0
    return Backlog(due=due, waiting=waiting, dead=dead, oldest_due_age=round(age, 3))


def installation_health(
    connection: Connection, *, now: datetime, sources: Collection[str], feed: bool = False
) -> InstallationHealth:
    """`sources` are those that are described where this is asked. With `feed` also where no change waits."""
    changes = Outbox(connection).waiting()
    states = connection.execute(select(media.c.state, func.count()).group_by(media.c.state)).all()
    unserved = connection.execute(
        select(sync_request.c.source, func.count())
        .where(sync_request.c.state == "due", sync_request.c.source.not_in(sorted(sources)))
        .group_by(sync_request.c.source)
        .order_by(sync_request.c.source)
    ).all()
    failing = connection.execute(
        select(sync_request.c.source, func.count(), func.max(sync_request.c.last_error))
        .where(sync_request.c.state == "due", sync_request.c.attempts > 0)
        .group_by(sync_request.c.source)
        .order_by(sync_request.c.source)
    ).all()
    whole = backlog(connection, now=now)
    return InstallationHealth(
        seen_at=now,
        backlog=whole,
        media=dict(states),
        notifications=connection.execute(select(func.count()).select_from(notification)).scalar_one(),
        workers=Heartbeats(connection).all(),
        back_offs=RateLimiter(connection).back_offs(),
        served=backlog(connection, now=now, sources=sources) if unserved else whole,
        unserved=dict(map(tuple, unserved)),
        changes=changes if feed or changes.count else None,
        jobs=Jobs(connection).failing(),
        overdue=Jobs(connection).overdue(before=now - _OVERDUE),
        failing={source: (count, (error or "")[:300]) for source, count, error in map(tuple, failing)},
    )
