"""A worker's own clock: it says that it lives and looks for work every few seconds, broker or no broker."""

from __future__ import annotations

import random
import threading
from typing import Any

from celery import bootsteps

from worker import logs, runtime
from worker.core.errors import StoreUnavailable
from worker.queue import tasks
from worker.queue.celery_app import app
from worker.store.quota import Quota
from worker.store.workers import Heartbeat, Workers

log = logs.get(__name__)

#: Seconds between two looks; the jitter keeps workers from looking all at once.
_PAUSE, _JITTER = 2.0, 1.0


class Sweeper(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs beside the pool, and before the connection to the broker stands."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:
        runtime.current().stopping.set()
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    terminate = stop

    def _run(self) -> None:
        here = runtime.current()
        self._beat()
        self._probe()
        while not self._stopped.wait(_PAUSE + random.uniform(0, _JITTER)):  # noqa: S311
            self._sweep()
        try:
            here.store.transact(lambda connection: Workers(connection).leave(here.name))
        except StoreUnavailable as error:
            log.warning("worker left without a word", error=str(error))

    def _sweep(self) -> None:
        try:
            more = True
            # Without a broker this is the only thread that works, so it goes on while there is something to do.
            while more and not self._stopped.is_set():
                more = tasks.work().more_waiting
                self._beat()
        except Exception:
            # Whatever it was: a worker that no longer sweeps is worse.
            log.exception("sweep failed")

    def _probe(self) -> None:
        try:
            runtime.current().store.transact(lambda connection: Quota(connection).probe())
        except StoreUnavailable as error:
            log.warning("calls stay held back", error=str(error))

    def _beat(self) -> None:
        here = runtime.current()
        heartbeat = Heartbeat(name=here.name, started_at=here.started_at, seen_at=runtime.now(), claimed_at=here.claimed_at)
        try:
            here.store.transact(lambda connection: Workers(connection).beat(heartbeat))
        except StoreUnavailable as error:
            log.warning("heartbeat postponed", error=str(error))


app.steps["worker"].add(Sweeper)
