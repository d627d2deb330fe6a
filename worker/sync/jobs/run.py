"""Long runs, one step at a time: each step's result and the checkpoint after it are one commit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Event
from typing import Any, Protocol

from sqlalchemy import Connection

from worker import logs
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodThrottledError
from worker.store import Store
from worker.store.jobs.job_rows import DONE, FAILED, Job, Jobs

log = logs.get(__name__)

#: A job that fails is tried again after such a pause, and after twice as long each time.
_BACKOFF = (timedelta(seconds=1), timedelta(minutes=1))


#: Counters of media that were requested.
_REQUESTED = ("requested", "missed", "changed")


def _nothing(_connection: Connection) -> Mapping[str, int]:
    return {}


@dataclass(slots=True)
class Step:
    """What one step found. `store` writes it, in the transaction that moves the job to `checkpoint`, and gives what to count."""

    checkpoint: dict[str, Any]
    store: Callable[[Connection], Mapping[str, int]] = _nothing
    #: That was the last.
    done: bool = False
    #: Nothing can be done before that.
    wait: timedelta = field(default=timedelta(0))


class JobRefusedError(Exception):
    """The job cannot go on; somebody has to change something, and the sentence says what."""


class Kind(Protocol):
    """One kind of job, for one source."""

    def step(self, job: Job, *, now: datetime) -> Step:
        """The next step after `job.checkpoint`; outside of any transaction. Raises VodError and JobRefused."""


#: Kinds by source and name.
Kinds = Mapping[tuple[str, str], Kind]


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
    """Take a job that is due and work on it for a while; False where none was. Raises StoreUnavailable.

    `ring` has those look who fetch media; it is called where a step requested some.
    """
    names = {source for source, _ in kinds}, {kind for _, kind in kinds}
    with store.reading() as connection:
        if not Jobs(connection).any_due(*names, now=now()):
            return False
    claimed = store.transact(lambda connection: Jobs(connection).claim(*names, now=now(), lease=lease))
    if claimed is None:
        return False
    job, token = claimed
    deadline = time.monotonic() + longest.total_seconds()
    while True:
        try:
            step = kinds[job.source, job.kind].step(job, now=now())
            moved = _take(store, job, token, step, now(), lease)
        except (VodRefusedError, JobRefusedError) as error:
            _end(store, job, token, FAILED, now(), str(error))
            return True
        except Exception as error:
            _postpone(store, job, token, now(), error)
            return True
        if moved is None:
            log.info("job was taken away", job=job.id, kind=job.kind, source=job.source)
            return True
        if any(moved.counters.get(name) != job.counters.get(name) for name in _REQUESTED):
            wake_workers()
        job = moved
        if step.done:
            _end(store, job, token, DONE, now(), None)
            return True
        if step.wait or stopping.is_set() or time.monotonic() >= deadline:
            break
    at = now() + step.wait
    store.transact(lambda connection: Jobs(connection).give_back(job.id, token, at=at))
    return True


def _take(store: Store, job: Job, token: str, step: Step, now: datetime, lease: timedelta) -> Job | None:
    """The job after the step; None where it is no longer ours, and nothing was written."""

    def write(connection: Connection) -> Job | None:
        counters = dict(job.counters)
        for name, count in step.store(connection).items():
            counters[name] = counters.get(name, 0) + count
        jobs = Jobs(connection)
        if not jobs.move(job.id, token, step.checkpoint, counters, now=now, until=now + lease):
            connection.rollback()
            return None
        return replace(job, checkpoint=step.checkpoint, counters=counters)

    return store.transact(write)


def _end(store: Store, job: Job, token: str, state: str, now: datetime, error: str | None) -> None:
    store.transact(lambda connection: Jobs(connection).finish(job.id, token, state=state, now=now, error=error))
    say = log.info if state == DONE else log.error
    say(f"job {state}", job=job.id, kind=job.kind, source=job.source, error=error, **job.counters)


def _postpone(store: Store, job: Job, token: str, now: datetime, error: Exception) -> None:
    first, longest = _BACKOFF
    if isinstance(error, VodThrottledError):
        pause = timedelta(seconds=error.retry_after or 1)
    elif isinstance(error, VodCredentialsError):
        pause = longest
    else:
        # The longer nothing has moved, the longer the pause; workers that failed together do not come back together.
        still = max(first, min(longest, (now - job.updated_at) / 2))
        pause = still * (0.5 + random.random() / 2)  # noqa: S311
    sentence = str(error) if isinstance(error, VodError) else f"{type(error).__name__}: {error}"
    store.transact(lambda connection: Jobs(connection).give_back(job.id, token, at=now + pause, error=sentence))
    if isinstance(error, VodError):
        log.warning("job postponed", job=job.id, kind=job.kind, source=job.source, seconds=pause.total_seconds(), error=sentence)
    else:
        log.exception("job postponed", job=job.id, kind=job.kind, source=job.source, seconds=pause.total_seconds())
