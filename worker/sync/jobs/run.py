"""Run jobs step by step: what a step found and the checkpoint of the next one are stored in one transaction."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

from sqlalchemy import Connection

from worker import logs
from worker.core.backoff import HALF_JITTER, Backoff
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodThrottledError
from worker.store import Store
from worker.store.jobs.job_rows import Job, Jobs, JobState
from worker.sync.jobs.step import JobFormatError, JobRefusedError, Kinds, Step, to_json

log = logs.get(__name__)

#: Pauses after a failed step.
_BACKOFF = Backoff(first=timedelta(seconds=1), longest=timedelta(minutes=1), jitter=HALF_JITTER)

#: The pause is this share of the time since the last step that worked.
_PAUSE_SHARE = 0.5

#: Pause after a throttled call if VOD does not say when to try again.
_THROTTLE_PAUSE = timedelta(seconds=1)

#: Counters of media for which a sync request was stored.
_REQUEST_COUNTERS = ("requested", "missed", "changed")


@dataclass(slots=True)
class _ClaimedJob:
    """A job that this worker has claimed, and its changes in the database. `job` is the row after the last step."""

    store: Store
    job: Job
    token: str

    def store_step(self, step: Step, *, now: datetime, lease: timedelta) -> bool:
        """Store what the step found, its counters and the next checkpoint. If the claim is over, store nothing and return False."""

        def write(connection: Connection) -> Job | None:
            progress = step.write(connection)
            counters = dict(self.job.counters)
            for name, count in progress.counters.items():
                counters[name] = counters.get(name, 0) + count
            checkpoint = to_json(progress.checkpoint)
            if not Jobs(connection).advance(self.job.id, self.token, checkpoint, counters, now=now, until=now + lease):
                connection.rollback()
                return None
            return replace(self.job, checkpoint=checkpoint, counters=counters)

        advanced = self.store.transact(write)
        if advanced is None:
            log.info("job claimed by another worker, paused or cancelled", **self._log_fields())
            return False
        self.job = advanced
        return True

    def finish(self, state: JobState, *, now: datetime, error: str | None = None) -> None:
        self.store.transact(lambda connection: Jobs(connection).finish(self.job.id, self.token, state=state, now=now, error=error))
        write_log = log.info if state == JobState.DONE else log.error
        write_log("job ended", state=state, error=error, **self._log_fields(), **self.job.counters)

    def postpone(self, error: Exception, *, now: datetime) -> None:
        """Release the job after a failed step. The step is repeated after a pause."""
        pause = self._pause_after(error, now)
        message = str(error) if isinstance(error, VodError | JobFormatError) else _unexpected(error)
        # A traceback once, and not at each retry.
        is_new_bug = not isinstance(error, VodError | JobFormatError) and message != self.job.last_error
        self.release(at=now + pause, error=message)
        self.job = replace(self.job, last_error=message)
        seconds = pause.total_seconds()
        log.warning("job postponed", error=message, seconds=seconds, exc_info=error if is_new_bug else None, **self._log_fields())

    def release(self, *, at: datetime, error: str | None = None) -> None:
        self.store.transact(lambda connection: Jobs(connection).release(self.job.id, self.token, at=at, error=error))

    def _pause_after(self, error: Exception, now: datetime) -> timedelta:
        if isinstance(error, VodThrottledError):
            return timedelta(seconds=error.retry_after) if error.retry_after else _THROTTLE_PAUSE
        if isinstance(error, VodCredentialsError):
            return _BACKOFF.longest
        pause = (now - self.job.updated_at) * _PAUSE_SHARE
        return _BACKOFF.jittered(max(_BACKOFF.first, min(_BACKOFF.longest, pause)))

    def _log_fields(self) -> dict[str, object]:
        phase = (self.job.checkpoint or {}).get("phase")
        return {"job": self.job.id, "kind": self.job.kind, "source": self.job.source, "phase": phase}


def _unexpected(error: Exception) -> str:
    """Return what failed and where, for an error that vodsync does not foresee."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text} (in {Path(frame.filename).name}:{frame.lineno}); this is a bug in vodsync, please report it with the log"


def run_jobs(
    store: Store,
    kinds: Kinds,
    *,
    now: Callable[[], datetime],
    lease: timedelta,
    stopping: Event,
    longest: timedelta = timedelta(seconds=5),
    wake_workers: Callable[[], object] = lambda: None,
) -> bool:
    """Claim a job that is due and run its steps for up to `longest`. Return False if no job was due.

    `wake_workers` is called after a step that requested media, so that they are fetched at once. Raises StoreUnavailableError.
    """
    claimed = _claim(store, kinds, now=now(), lease=lease)
    if claimed is None:
        return False
    kind = kinds[claimed.job.source, claimed.job.kind]
    deadline = time.monotonic() + longest.total_seconds()
    while True:
        requested_before = _requested(claimed.job)
        try:
            step = kind.step(claimed.job, now=now())
            if not claimed.store_step(step, now=now(), lease=lease):
                return True
        except (VodRefusedError, JobRefusedError) as error:
            claimed.finish(JobState.FAILED, now=now(), error=str(error))
            return True
        except Exception as error:
            claimed.postpone(error, now=now())
            return True
        if _requested(claimed.job) != requested_before:
            wake_workers()
        if step.is_last:
            claimed.finish(JobState.DONE, now=now())
            return True
        if step.wait or stopping.is_set() or time.monotonic() >= deadline:
            claimed.release(at=now() + step.wait)
            return True


def _claim(store: Store, kinds: Kinds, *, now: datetime, lease: timedelta) -> _ClaimedJob | None:
    sources, names = {source for source, _ in kinds}, {name for _, name in kinds}
    with store.reading() as connection:
        if not Jobs(connection).any_due(sources, names, now=now):
            return None
    claimed = store.transact(lambda connection: Jobs(connection).claim(sources, names, now=now, lease=lease))
    return None if claimed is None else _ClaimedJob(store, *claimed)


def _requested(job: Job) -> list[int | None]:
    return [job.counters.get(name) for name in _REQUEST_COUNTERS]
