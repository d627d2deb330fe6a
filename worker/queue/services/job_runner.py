"""A worker's hand for long runs: takes those that are due, a few seconds of each, and does what comes by the clock."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

from celery import bootsteps

from worker import logs, runtime
from worker.core.errors import StoreUnavailableError
from worker.queue.celery_app import app
from worker.queue.wakeups import wakeup_sender
from worker.sync.jobs.run import run_jobs
from worker.sync.jobs.schedule import start_due
from worker.sync.retention import Pruner

log = logs.get(__name__)

#: Seconds between two looks for jobs: soon after one was found and ever later while none is due; and between two at the clock.
_SOON, _PAUSE, _CLOCK = 0.1, 0.5, 15.0

#: Seconds that a step gets to finish.
_GRACE = 30.0


class JobRunner(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs beside the pool, so that no job ever takes a thread from the media that are due."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, parent: Any) -> None:
        here = runtime.current()
        self._pruner = Pruner(here.store, here.retention)
        for source in here.source_contexts:
            # One for each source: none waits for another one's VOD.
            thread = threading.Thread(target=self._run, args=(source,), name=f"runner {source}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, parent: Any) -> None:
        self._stopped.set()
        deadline = time.monotonic() + _GRACE
        for thread in self._threads:
            thread.join(timeout=max(0, deadline - time.monotonic()))

    terminate = stop

    def _run(self, source: str) -> None:
        here = runtime.current()
        lease = timedelta(seconds=here.settings.lease)
        kinds = {name: kind for name, kind in here.kinds.items() if name[0] == source}
        pause, asked_at = 0.0, -_CLOCK
        while not self._stopped.wait(pause):
            worked = False
            try:
                if time.monotonic() - asked_at > _CLOCK:
                    asked_at = time.monotonic()
                    self._look_at_the_clock(source)
                worked = run_jobs(
                    here.store, kinds, now=runtime.now, lease=lease, stopping=self._stopped, wake_workers=wakeup_sender().send
                )
            except StoreUnavailableError as error:
                log.warning("jobs postponed", error=str(error))
            except Exception:
                # Whatever it was: a worker that takes no more jobs is worse.
                log.exception("job failed")
            pause = 0.0 if worked else max(_SOON, min(_PAUSE, 2 * pause))

    def _look_at_the_clock(self, source: str) -> None:
        here = runtime.current()
        every = timedelta(hours=here.settings.reconcile_hours)
        full_every = timedelta(days=here.settings.reconcile_full_days)
        start_due(here.store, source, now=runtime.now(), every=every, full_every=full_every)
        self._pruner.prune_if_due(now=runtime.now(), stopping=self._stopped)


app.steps["worker"].add(JobRunner)
