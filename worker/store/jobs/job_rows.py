"""Long runs over the library: who holds one, how far it is, and what it has counted."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, select, update

from worker.store.tables import job, schedule

#: A job is worked on, rests because somebody said so, or is over in one of three ways.
RUNNING, PAUSED, DONE, FAILED, CANCELLED = "running", "paused", "done", "failed", "cancelled"
OVER = (DONE, FAILED, CANCELLED)


@dataclass(frozen=True, slots=True)
class Job:
    """`checkpoint` is where the next step begins, None before the first; `counters` count from the beginning of the job."""

    id: int
    source: str
    kind: str
    state: str
    parameters: dict[str, Any]
    checkpoint: dict[str, Any] | None
    counters: dict[str, int]
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    last_error: str | None


class Jobs:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self, source: str, kind: str, parameters: Mapping[str, Any], *, now: datetime) -> tuple[Job, bool]:
        """A new job, or the one of this kind that is not over yet; True where it is new."""
        running = self.running(source, kind)
        if running is not None:
            return running, False
        row = {
            "source": source,
            "kind": kind,
            "state": RUNNING,
            "parameters": dict(parameters),
            "counters": {},
            "created_at": now,
            "updated_at": now,
            "available_at": now,
            "running": f"{kind}:{source}",
        }
        # Whoever comes second fails at the unique key, and finds the first when the transaction is begun again.
        self._connection.execute(insert(job), row)
        started = self.running(source, kind)
        assert started is not None  # noqa: S101
        return started, True

    def running(self, source: str, kind: str) -> Job | None:
        """The job of this kind that is not over, if there is one; it may be paused."""
        row = self._connection.execute(_SELECT.where(job.c.running == f"{kind}:{source}")).one_or_none()
        return None if row is None else Job(*row)

    def find(self, job_id: int) -> Job | None:
        row = self._connection.execute(_SELECT.where(job.c.id == job_id)).one_or_none()
        return None if row is None else Job(*row)

    def latest(self, *, limit: int) -> list[Job]:
        """The newest first."""
        return [Job(*row) for row in self._connection.execute(_SELECT.order_by(job.c.id.desc()).limit(limit))]

    def failing(self) -> list[Job]:
        """Those that do not go on: the last step failed, or the whole job did and none of its kind and source was started since."""
        later = job.alias()
        newer = exists().where(later.c.source == job.c.source, later.c.kind == job.c.kind, later.c.id > job.c.id)
        rows = self._connection.execute(
            _SELECT.where(job.c.last_error.is_not(None), (job.c.state == RUNNING) | ((job.c.state == FAILED) & ~newer)).order_by(
                job.c.id
            )
        )
        return [Job(*row) for row in rows]

    def overdue(self, *, before: datetime) -> int:
        """How many could have been taken by then, and were not."""
        waiting = select(func.count()).where(job.c.state == RUNNING, job.c.available_at < before)
        return self._connection.execute(waiting).scalar_one()

    def last_done(self, source: str, kind: str, **parameters: Any) -> Job | None:
        """The last one that ended well, among those started with these parameters."""
        rows = self._connection.execute(
            _SELECT.where(job.c.source == source, job.c.kind == kind, job.c.state == DONE).order_by(job.c.id.desc()).limit(100)
        )
        found = (Job(*row) for row in rows)
        return next((each for each in found if parameters.items() <= each.parameters.items()), None)

    def any_due(self, sources: Collection[str], kinds: Collection[str], *, now: datetime) -> bool:
        """Whether there is one to claim, without a lock."""
        return self._connection.execute(select(job.c.id).where(_due(sources, kinds, now)).limit(1)).first() is not None

    def claim(self, sources: Collection[str], kinds: Collection[str], *, now: datetime, lease: timedelta) -> tuple[Job, str] | None:
        """A job that is due and nobody works on, ours until the lease ends; the token is needed to move it."""
        due = _SELECT.where(_due(sources, kinds, now))
        row = self._connection.execute(due.order_by(job.c.available_at).limit(1).with_for_update(skip_locked=True)).one_or_none()
        if row is None:
            return None
        token = secrets.token_hex(16)
        self._connection.execute(update(job).where(job.c.id == row.id).values(claim=token, available_at=now + lease))
        return Job(*row), token

    def move(
        self,
        job_id: int,
        token: str,
        checkpoint: Mapping[str, Any],
        counters: Mapping[str, int],
        *,
        now: datetime,
        until: datetime,
    ) -> bool:
        """Write down how far it is, and hold it `until` then.

        False where it was paused, cancelled or given to somebody else: then the step must not be written either.
        """
        moved = {"checkpoint": dict(checkpoint), "counters": dict(counters), "updated_at": now, "last_error": None}
        return self._held(job_id, token, moved | {"available_at": until})

    def give_back(self, job_id: int, token: str, *, at: datetime, error: str | None = None) -> bool:
        """Whoever comes next may go on from `at`."""
        return self._held(job_id, token, {"claim": None, "available_at": at} | ({"last_error": error} if error else {}))

    def finish(self, job_id: int, token: str, *, state: str, now: datetime, error: str | None = None) -> bool:
        over = {"state": state, "finished_at": now, "updated_at": now, "running": None, "claim": None, "last_error": error}
        return self._held(job_id, token, over)

    def pause(self, job_id: int, *, now: datetime) -> bool:
        """False where it does not run."""
        return self._set(job_id, (RUNNING,), {"state": PAUSED, "claim": None, "updated_at": now})

    def resume(self, job_id: int, *, now: datetime) -> bool:
        """False where it is not paused."""
        return self._set(job_id, (PAUSED,), {"state": RUNNING, "claim": None, "available_at": now, "updated_at": now})

    def cancel(self, job_id: int, *, now: datetime) -> bool:
        """False where it is over."""
        over = {"state": CANCELLED, "finished_at": now, "updated_at": now, "running": None, "claim": None}
        return self._set(job_id, (RUNNING, PAUSED), over)

    def due(self, source: str, name: str, every: timedelta, *, now: datetime, at_once: bool = False) -> bool:
        """Whether it is time for `name`, which comes every so often; true once each time, whoever asks.

        The first time that it is asked for begins the first interval, or is due itself with `at_once`. Restarts do not: when it is
        due stands in the database.
        """
        where = and_(schedule.c.source == source, schedule.c.name == name)
        due_at = self._connection.execute(select(schedule.c.due_at).where(where).with_for_update()).scalar()
        if due_at is None:
            self._connection.execute(insert(schedule), {"source": source, "name": name, "due_at": now + every})
            return at_once
        if now < due_at <= now + every:
            return False
        self._connection.execute(update(schedule).where(where).values(due_at=now + every))
        # One that is further away than an interval was set before the interval was made shorter.
        return bool(due_at <= now)

    def reschedule(self, source: str, name: str, *, at: datetime) -> None:
        """Make `name` due at that time, because not all of it was done."""
        where = and_(schedule.c.source == source, schedule.c.name == name)
        self._connection.execute(update(schedule).where(where).values(due_at=at))

    def prune(self, *, before: datetime, limit: int) -> int:
        """Forget jobs that were over by then, but not the last of a kind that ended well; gives how many."""
        last = select(func.max(job.c.id)).where(job.c.state == DONE).group_by(job.c.source, job.c.kind)
        kept = set(self._connection.execute(last).scalars())
        old = select(job.c.id).where(job.c.finished_at < before, job.c.state.in_(OVER)).order_by(job.c.id).limit(limit + len(kept))
        ids = [each for each in self._connection.execute(old).scalars() if each not in kept][:limit]
        if ids:
            self._connection.execute(delete(job).where(job.c.id.in_(ids)))
        return len(ids)

    def _held(self, job_id: int, token: str, values: Mapping[str, Any]) -> bool:
        held = update(job).where(job.c.id == job_id, job.c.claim == token, job.c.state == RUNNING)
        return bool(self._connection.execute(held.values(dict(values))).rowcount)

    def _set(self, job_id: int, states: Collection[str], values: Mapping[str, Any]) -> bool:
        return bool(
            self._connection.execute(update(job).where(job.c.id == job_id, job.c.state.in_(states)).values(dict(values))).rowcount
        )


def _due(sources: Collection[str], kinds: Collection[str], now: datetime) -> ColumnElement[bool]:
    return and_(job.c.state == RUNNING, job.c.available_at <= now, job.c.source.in_(list(sources)), job.c.kind.in_(list(kinds)))


_SELECT = select(
    job.c.id,
    job.c.source,
    job.c.kind,
    job.c.state,
    job.c.parameters,
    job.c.checkpoint,
    job.c.counters,
    job.c.created_at,
    job.c.updated_at,
    job.c.finished_at,
    job.c.last_error,
)
