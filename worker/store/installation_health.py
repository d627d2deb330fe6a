"""Report the state of the installation: counts for programs, and problems as sentences for the operator."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, true

from worker.store.database_clock import MAX_CLOCK_SKEW
from worker.store.heartbeats import Heartbeat, Heartbeats
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.store.outbox import Outbox, PendingChanges
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, BackOff, RateLimiter
from worker.store.tables import media, notification, sync_request

#: A worker without a heartbeat for this long is silent.
SILENT_AFTER = timedelta(minutes=1)

#: Work that is due for this long is a problem.
OVERDUE_AFTER = timedelta(seconds=30)

MAX_JOB_ERROR_LENGTH = 1000  # characters
MAX_REQUEST_ERROR_LENGTH = 300  # characters

NO_WORKER = "no worker is alive; start one with: vodsync work"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sync requests by state. `oldest_due_age` is in seconds, 0 if nothing is due."""

    due: int
    waiting: int
    dead: int
    oldest_due_age: float


@dataclass(frozen=True, slots=True)
class InstallationHealth:
    """The state at `seen_at`. `changes` is None if the change feed is off and has no pending changes."""

    seen_at: datetime
    backlog: Backlog
    media: dict[str, int]
    notifications: int
    workers: list[Heartbeat]
    back_offs: list[BackOff]
    #: The part of the backlog that belongs to configured sources, and the number of due requests of each other source.
    served: Backlog
    unserved: dict[str, int]
    changes: PendingChanges | None = None
    #: Long runs that failed or are being retried.
    jobs: Sequence[Job] = ()
    #: By source, how many due requests failed before, and the error of one of them.
    failing: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    #: The number of long runs that no worker claims.
    overdue: int = 0
    #: By host, how far its clock is ahead of the database's: this machine, and those with a worker that is alive.
    clocks_ahead: Mapping[str, timedelta] = field(default_factory=dict)

    def is_alive(self, worker: Heartbeat) -> bool:
        return self.seen_at - worker.seen_at <= SILENT_AFTER

    @property
    def problems(self) -> list[str]:
        """What the operator should look at, in sentences that name the next step."""
        return [
            *self._back_off_problems(),
            *self._worker_problems(),
            *self._request_problems(),
            *self._job_problems(),
            *self._change_problems(),
            *filter(None, map(clock_problem, self.clocks_ahead, self.clocks_ahead.values())),
        ]

    def _back_off_problems(self) -> Iterator[str]:
        for back_off in self.back_offs:
            retry = f"; retried at {back_off.until:%H:%M:%S}" if back_off.until > back_off.fault_at else ""
            yield (
                f"source {back_off.source}, {back_off.operation}: {back_off.fault} (since {back_off.fault_at:%H:%M:%S} UTC{retry})"
            )

    def _worker_problems(self) -> Iterator[str]:
        alive = [worker for worker in self.workers if self.is_alive(worker)]
        if self.served.oldest_due_age > OVERDUE_AFTER.total_seconds():
            overdue = f"{self.served.due} sync requests are due, the oldest for {self.served.oldest_due_age:.0f} s"
            is_idle = all(worker.claimed_at is None or self.seen_at - worker.claimed_at > OVERDUE_AFTER for worker in alive)
            # Requests of a source that is backed off do not wait for a worker, and have a problem of their own.
            is_backed_off = any(back_off.operation == BATCH_GET_MEDIA_INFOS for back_off in self.back_offs)
            if not alive:
                yield f"{overdue}, and {NO_WORKER}"
            elif is_idle and not is_backed_off:
                yield f"{overdue}, and no worker claims them; read the workers' logs and restart the workers"
        elif self.overdue and not alive:
            runs = "1 long run waits" if self.overdue == 1 else f"{self.overdue} long runs wait"
            yield f"{runs}, and {NO_WORKER}"
        elif self.workers and not alive:
            yield f"the last worker did not shut down cleanly, and {NO_WORKER}"

    def _request_problems(self) -> Iterator[str]:
        for source, count in self.unserved.items():
            requests = "1 sync request belongs" if count == 1 else f"{count} sync requests belong"
            yield (
                f"{requests} to source {source}, which is not configured on this machine; add [sources.{source}] to vodsync.toml, "
                "or delete its rows from vod_sync_request"
            )
        if self.backlog.dead:
            letters = "1 dead letter" if self.backlog.dead == 1 else f"{self.backlog.dead} dead letters"
            yield f"{letters}; list them with: vodsync failures list"
        for source, (count, error) in self.failing.items():
            requests = "1 sync request" if count == 1 else f"{count} sync requests"
            yield f"{requests} of source {source} failed and will be retried: {error or 'no error message'}"

    def _job_problems(self) -> Iterator[str]:
        for job in self.jobs:
            state = "failed" if job.state == JobState.FAILED else "is being retried"
            error = (job.last_error or "no error message")[:MAX_JOB_ERROR_LENGTH]
            yield f"{job.kind} {job.id} of source {job.source} {state}: {error} (vodsync jobs show {job.id})"

    def _change_problems(self) -> Iterator[str]:
        if self.changes and self.changes.since and self.seen_at - self.changes.since > OVERDUE_AFTER:
            yield (
                f"{self.changes.count} changes are not published since {self.changes.since:%Y-%m-%d %H:%M:%S} UTC; "
                "check the broker, and that workers run with VODSYNC_CHANGES=on"
            )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON that `vodsync status --json` and /statusz have in common."""
        return {
            "backlog": {"due": self.backlog.due, "waiting": self.backlog.waiting},
            "oldest_due_age_seconds": self.backlog.oldest_due_age,
            "dead_letters": self.backlog.dead,
            "media": self.media,
            "notifications": self.notifications,
            "workers": [asdict(worker) | {"state": "ok" if self.is_alive(worker) else "silent"} for worker in self.workers],
            "held_back": [asdict(back_off) for back_off in self.back_offs],
            "problems": self.problems,
        } | ({"changes": asdict(self.changes)} if self.changes else {})


def clock_problem(host: str, ahead: timedelta, *, tolerance: timedelta = MAX_CLOCK_SKEW) -> str | None:
    """Return a sentence about a machine whose clock differs from the database's; None if it agrees well enough."""
    if abs(ahead) <= tolerance:
        return None
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    return f"the clock of {host} is {abs(ahead).total_seconds():.0f} s {direction} the database's; synchronise both machines by NTP"


def backlog(connection: Connection, *, now: datetime, sources: Collection[str] | None = None) -> Backlog:
    """Count the sync requests of these sources, or of all.

    Claimed and delayed requests are `waiting`. All others are `due`, also those that linger until their batch is full.
    """
    is_ready = sync_request.c.available_at <= now
    is_ours = true() if sources is None else sync_request.c.source.in_(sorted(sources))
    due, oldest = connection.execute(
        select(func.count(), func.min(sync_request.c.available_at)).where(sync_request.c.state == "due", is_ready, is_ours)
    ).one()
    waiting = connection.execute(select(func.count()).where(sync_request.c.state == "due", ~is_ready, is_ours)).scalar_one()
    dead = connection.execute(select(func.count()).where(sync_request.c.state == "dead", is_ours)).scalar_one()
    age = (now - oldest).total_seconds() if oldest else 0.0
    return Backlog(due=due, waiting=waiting, dead=dead, oldest_due_age=round(age, 3))


def installation_health(
    connection: Connection,
    *,
    now: datetime,
    sources: Collection[str],
    feed: bool = False,
    clock_ahead: timedelta | None = None,
) -> InstallationHealth:
    """Read the state of the installation.

    `sources` are those that this process has in its configuration. With `feed`, `changes` is present even if nothing is pending.
    `clock_ahead` is how far this machine's clock is ahead of the database's; None: this machine's clock is not part of the report.
    """
    changes = Outbox(connection).pending()
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
    total = backlog(connection, now=now)
    workers = Heartbeats(connection).all()
    clocks_ahead = {
        worker.host: timedelta(seconds=worker.clock_ahead_seconds)
        for worker in workers
        if worker.clock_ahead_seconds is not None and now - worker.seen_at <= SILENT_AFTER
    }
    if clock_ahead is not None:
        clocks_ahead[socket.gethostname()] = clock_ahead
    return InstallationHealth(
        seen_at=now,
        backlog=total,
        media=dict(states),
        notifications=connection.execute(select(func.count()).select_from(notification)).scalar_one(),
        workers=workers,
        back_offs=RateLimiter(connection).back_offs(),
        served=backlog(connection, now=now, sources=sources) if unserved else total,
        unserved=dict(map(tuple, unserved)),
        changes=changes if feed or changes.count else None,
        jobs=Jobs(connection).failing(),
        overdue=Jobs(connection).overdue(before=now - OVERDUE_AFTER),
        failing={source: (count, (error or "")[:MAX_REQUEST_ERROR_LENGTH]) for source, count, error in map(tuple, failing)},
        clocks_ahead=clocks_ahead,
    )
