"""Read and write vod_job: the state of long runs, which worker has claimed one, its checkpoint and its counters."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, func, insert, select, update

from worker.store.tables import job

#: Jobs that `last_done` looks through for one with certain parameters.
_MAX_SEARCHED = 100


class JobState(StrEnum):
    """The text of vod_job.state. An operator pauses, resumes and cancels; a worker ends a job as done or failed."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True if the job never continues."""
        return self in FINAL_STATES


FINAL_STATES = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Job:
    """One row of vod_job. `checkpoint` is None before the first step; `counters` count from the start of the job.

    `parameters` and `checkpoint` are JSON objects whose keys depend on the kind: the structs of worker.sync.jobs describe them.
    """

    id: int
    source: str
    kind: str
    state: JobState
    parameters: dict[str, Any]
    checkpoint: dict[str, Any] | None
    counters: dict[str, int]
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    last_error: str | None


class Jobs:
    """The table vod_job. Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self, source: str, kind: str, parameters: Mapping[str, Any], *, now: datetime) -> tuple[Job, bool]:
        """Return a new job and True, or the job of this source and kind that is not over and False."""
        unfinished = self._unfinished(source, kind)
        if unfinished is not None:
            return unfinished, False
        row = {
            "source": source,
            "kind": kind,
            "state": JobState.RUNNING,
            "parameters": dict(parameters),
            "counters": {},
            "created_at": now,
            "updated_at": now,
            "available_at": now,
            "running": _unique_key(source, kind),
        }
        # If two start at the same moment, the second fails at the unique key; its transaction is repeated and finds the first.
        self._connection.execute(insert(job), row)
        started = self._unfinished(source, kind)
        assert started is not None  # noqa: S101  inserted in this transaction; for mypy
        return started, True

    def find(self, job_id: int) -> Job | None:
        """Return the job with this id, None if there is none."""
        row = self._connection.execute(_SELECT.where(job.c.id == job_id)).one_or_none()
        return None if row is None else _job(row)

    def latest(self, *, limit: int) -> list[Job]:
        """Return up to `limit` jobs, the newest first."""
        return _jobs(self._connection.execute(_SELECT.order_by(job.c.id.desc()).limit(limit)))

    def failing(self) -> list[Job]:
        """Return the jobs that need attention, the oldest first.

        These are running jobs whose last step failed, and failed jobs if none of their source and kind was started since.
        """
        later = job.alias()
        was_started_again = exists().where(later.c.source == job.c.source, later.c.kind == job.c.kind, later.c.id > job.c.id)
        state = (job.c.state == JobState.RUNNING) | ((job.c.state == JobState.FAILED) & ~was_started_again)
        return _jobs(self._connection.execute(_SELECT.where(job.c.last_error.is_not(None), state).order_by(job.c.id)))

    def overdue(self, *, before: datetime) -> int:
        """Return how many jobs could have been claimed before then, and were not."""
        waiting = select(func.count()).where(job.c.state == JobState.RUNNING, job.c.available_at < before)
        return self._connection.execute(waiting).scalar_one()

    def last_done(self, source: str, kind: str, **parameters: Any) -> Job | None:
        """Return the newest job that is done and was started with these parameters (JSON values), None if there is none."""
        done = _SELECT.where(job.c.source == source, job.c.kind == kind, job.c.state == JobState.DONE)
        rows = self._connection.execute(done.order_by(job.c.id.desc()).limit(_MAX_SEARCHED))
        return next((candidate for candidate in _jobs(rows) if parameters.items() <= candidate.parameters.items()), None)

    def any_due(self, sources: Collection[str], kinds: Collection[str], *, now: datetime) -> bool:
        """Return whether `claim` would find a job. Takes no lock."""
        return self._connection.execute(select(job.c.id).where(_is_due(sources, kinds, now)).limit(1)).first() is not None

    def claim(self, sources: Collection[str], kinds: Collection[str], *, now: datetime, lease: timedelta) -> tuple[Job, str] | None:
        """Claim a job that is due until the lease ends. Return it and the token of the claim, None if no job is due.

        The methods that take a token do nothing and return False if the claim is over: the lease ended and another worker
        claimed the job, or an operator paused or cancelled it.
        """
        due = _SELECT.where(_is_due(sources, kinds, now))
        row = self._connection.execute(due.order_by(job.c.available_at).limit(1).with_for_update(skip_locked=True)).one_or_none()
        if row is None:
            return None
        token = secrets.token_hex(16)
        self._connection.execute(update(job).where(job.c.id == row.id).values(claim=token, available_at=now + lease))
        return _job(row), token

    def advance(
        self,
        job_id: int,
        token: str,
        checkpoint: Mapping[str, Any],
        counters: Mapping[str, int],
        *,
        now: datetime,
        until: datetime,
    ) -> bool:
        """Store the checkpoint of the next step and the counters, and extend the lease to `until`.

        Return False if the claim is over. The caller then rolls back what the step has written.
        """
        values = {"checkpoint": dict(checkpoint), "counters": dict(counters), "updated_at": now, "last_error": None}
        return self._update_claimed(job_id, token, values | {"available_at": until})

    def release(self, job_id: int, token: str, *, at: datetime, error: str | None = None) -> bool:
        """End the claim; the job is due again at `at`. Return False if the claim was over."""
        return self._update_claimed(job_id, token, {"claim": None, "available_at": at} | ({"last_error": error} if error else {}))

    def finish(self, job_id: int, token: str, *, state: JobState, now: datetime, error: str | None = None) -> bool:
        """End the job as done or failed. Return False if the claim was over."""
        return self._update_claimed(job_id, token, _ended(state, now) | {"last_error": error})

    def pause(self, job_id: int, *, now: datetime) -> bool:
        """Pause a running job. Return False if it is not running."""
        return self._update_if(job_id, [JobState.RUNNING], {"state": JobState.PAUSED, "claim": None, "updated_at": now})

    def resume(self, job_id: int, *, now: datetime) -> bool:
        """Continue a paused job at its checkpoint. Return False if it is not paused."""
        values = {"state": JobState.RUNNING, "claim": None, "available_at": now, "updated_at": now}
        return self._update_if(job_id, [JobState.PAUSED], values)

    def cancel(self, job_id: int, *, now: datetime) -> bool:
        """End a job that is running or paused. Return False if it has already ended."""
        return self._update_if(job_id, [JobState.RUNNING, JobState.PAUSED], _ended(JobState.CANCELLED, now))

    def prune(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` jobs that ended before then. Return how many.

        The newest done job of each source and kind stays: an incremental reconciliation begins at its start.
        """
        last_done = select(func.max(job.c.id)).where(job.c.state == JobState.DONE).group_by(job.c.source, job.c.kind)
        kept = set(self._connection.execute(last_done).scalars())
        old = select(job.c.id).where(job.c.finished_at < before, job.c.state.in_(FINAL_STATES)).order_by(job.c.id)
        old_ids = self._connection.execute(old.limit(limit + len(kept))).scalars()
        job_ids = [job_id for job_id in old_ids if job_id not in kept][:limit]
        if job_ids:
            self._connection.execute(delete(job).where(job.c.id.in_(job_ids)))
        return len(job_ids)

    def _unfinished(self, source: str, kind: str) -> Job | None:
        row = self._connection.execute(_SELECT.where(job.c.running == _unique_key(source, kind))).one_or_none()
        return None if row is None else _job(row)

    def _update_claimed(self, job_id: int, token: str, values: Mapping[str, Any]) -> bool:
        claimed = (job.c.id == job_id) & (job.c.claim == token) & (job.c.state == JobState.RUNNING)
        return bool(self._connection.execute(update(job).where(claimed).values(dict(values))).rowcount)

    def _update_if(self, job_id: int, states: Collection[JobState], values: Mapping[str, Any]) -> bool:
        is_in_state = (job.c.id == job_id) & job.c.state.in_(states)
        return bool(self._connection.execute(update(job).where(is_in_state).values(dict(values))).rowcount)


def _unique_key(source: str, kind: str) -> str:
    """Return the value of `running`, a unique column, for a job that is not over."""
    return f"{kind}:{source}"


def _ended(state: JobState, now: datetime) -> dict[str, Any]:
    return {"state": state, "finished_at": now, "updated_at": now, "running": None, "claim": None}


def _is_due(sources: Collection[str], kinds: Collection[str], now: datetime) -> ColumnElement[bool]:
    return and_(
        job.c.state == JobState.RUNNING, job.c.available_at <= now, job.c.source.in_(list(sources)), job.c.kind.in_(list(kinds))
    )


def _jobs(rows: Iterable[Row[*tuple[Any, ...]]]) -> list[Job]:
    return [_job(row) for row in rows]


def _job(row: Row[*tuple[Any, ...]]) -> Job:
    return Job(**{**row._mapping, "state": JobState(row.state)})


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
