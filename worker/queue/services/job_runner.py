"""Work on jobs (backfill, reconcile, replay, renormalise) a few seconds at a time, and start those that are scheduled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from worker import logs, runtime
from worker.background import BackgroundLoop
from worker.core.backoff import Backoff
from worker.core.errors import StoreUnavailableError
from worker.outage import Outage
from worker.queue.services.base import Service
from worker.queue.wakeups import wakeup_sender
from worker.runtime import Runtime
from worker.sync.jobs.run import run_jobs
from worker.sync.jobs.schedule import start_due
from worker.sync.retention import Pruner

log = logs.get(__name__)

#: The pause until the next look for due jobs. It grows while none is due.
IDLE_PAUSE = Backoff(timedelta(seconds=0.1), timedelta(seconds=0.5))

#: How often to check whether a reconciliation or the retention is due.
SCHEDULE_INTERVAL = 15.0  # seconds


class JobRunner(Service):
    """One thread for each source, so that a source whose VOD is slow does not delay the jobs of others.

    Jobs never occupy a thread of the pool, which serves the assets that are due.
    """

    def loops(self, concurrency: int) -> Iterator[BackgroundLoop]:
        current = runtime.current()
        pruner = Pruner(current.store, current.retention)
        for source in current.source_contexts:
            runner = SourceJobRunner(current, source, pruner)
            yield BackgroundLoop(f"job-runner {source}", runner.step, failure="job failed")


class SourceJobRunner:
    """Works on the jobs of one source."""

    def __init__(self, current: Runtime, source: str, pruner: Pruner) -> None:
        self._runtime = current
        self._source = source
        self._pruner = pruner
        self._kinds = {name: kind for name, kind in current.kinds.items() if name[0] == source}
        self._lease = timedelta(seconds=current.settings.lease)
        self._scheduled_at = -SCHEDULE_INTERVAL
        self._idle_steps = 0
        self._database = Outage()

    def step(self) -> float:
        """Start what is scheduled and work on one due job. Return the seconds until the next call."""
        worked = False
        try:
            if time.monotonic() - self._scheduled_at > SCHEDULE_INTERVAL:
                self._scheduled_at = time.monotonic()
                self._run_schedule()
            worked = run_jobs(
                self._runtime.store,
                self._kinds,
                now=self._runtime.store.now,
                lease=self._lease,
                stopping=self._runtime.stopping,
                wake_workers=wakeup_sender().send,
            )
        except StoreUnavailableError as error:
            if self._database.failed(str(error)):
                log.warning("jobs postponed", source=self._source, error=str(error))
        else:
            if self._database.recovered():
                log.info("jobs continue", source=self._source)
        if worked:
            self._idle_steps = 0
            return 0.0
        self._idle_steps += 1
        return IDLE_PAUSE.delay(self._idle_steps).total_seconds()

    def _run_schedule(self) -> None:
        settings, now = self._runtime.settings, self._runtime.store.now()
        start_due(
            self._runtime.store,
            self._source,
            now=now,
            every=timedelta(hours=settings.reconcile_hours),
            full_every=timedelta(days=settings.reconcile_full_days),
        )
        self._pruner.prune_if_due(now=now, stopping=self._runtime.stopping)
