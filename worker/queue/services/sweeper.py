"""A worker's own clocks: it says that it lives, and looks for work of each source every few seconds, broker or no broker."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import bootsteps
from sqlalchemy import Connection

from worker import logs, runtime
from worker.core.errors import StoreUnavailableError
from worker.queue import tasks
from worker.queue.celery_app import app
from worker.store.heartbeats import Heartbeat, Heartbeats
from worker.store.rate_limit import CREDENTIALS, RateLimiter
from worker.sync.drain import concurrency_limits

log = logs.get(__name__)

#: Seconds between two looks; the jitter keeps workers from looking all at once.
_PAUSE, _JITTER = 2.0, 1.0

#: Seconds that the threads get to finish what they are at.
_GRACE = 30.0


class Sweeper(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs beside the pool, and before the connection to the broker stands.

    A source's thread serves no other one, so that each is served whatever the others do to the pool.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, parent: Any) -> None:
        here = runtime.current()
        here.concurrency_limits = concurrency_limits(here.source_contexts, threads=parent.concurrency)
        self._start("heart", self._live)
        for source, source_context in here.source_contexts.items():
            self._start(f"sweeper {source}", partial(self._sweep, source))
            if source_context.settings.video_info:
                self._start(f"look-ups {source}", partial(self._look_up, source))

    def stop(self, parent: Any) -> None:
        here = runtime.current()
        here.stopping.set()
        self._stopped.set()
        for source_context in here.source_contexts.values():
            source_context.video_info_due.set()
        deadline = time.monotonic() + _GRACE
        for thread in self._threads:
            thread.join(timeout=max(0, deadline - time.monotonic()))

    terminate = stop

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _live(self) -> None:
        self._beat()
        self._probe()
        while not self._pause():
            self._beat()
        here = runtime.current()
        try:
            here.store.transact(lambda connection: Heartbeats(connection).remove(here.name))
        except StoreUnavailableError as error:
            log.warning("worker left without a word", error=str(error))

    def _sweep(self, source: str) -> None:
        while not self._pause():
            try:
                # Without a broker this is the only thread that works, so it goes on while there is something to do.
                while tasks.work(source).more_waiting and not self._stopped.is_set():
                    pass
            except Exception:
                # Whatever it was: a worker that no longer sweeps is worse.
                log.exception("sweep failed", source=source)

    def _look_up(self, source: str) -> None:
        video_info_due = runtime.current().source_contexts[source].video_info_due
        while not self._stopped.is_set():
            # A batch of this process says at once that there is something to ask; what others left behind is found by the clock.
            video_info_due.wait(_pause())
            video_info_due.clear()
            try:
                tasks.look_up(source)
            except Exception:
                log.exception("look-up failed", source=source)

    def _pause(self) -> bool:
        """True where it was cut short, because the worker stops."""
        return self._stopped.wait(_pause())

    def _probe(self) -> None:
        here = runtime.current()
        try:
            here.store.transact(lambda connection: RateLimiter(connection).retry_now())
            here.store.transact(partial(_tell_credentials, here=here))
        except StoreUnavailableError as error:
            log.warning("calls stay held back", error=str(error))

    def _beat(self) -> None:
        here = runtime.current()
        heartbeat = Heartbeat(name=here.name, started_at=here.started_at, seen_at=runtime.now(), claimed_at=here.claimed_at)
        try:
            here.store.transact(lambda connection: Heartbeats(connection).beat(heartbeat))
        except StoreUnavailableError as error:
            log.warning("heartbeat postponed", error=str(error))


def _tell_credentials(connection: Connection, here: runtime.Runtime) -> None:
    """`status` is asked where nobody knows what credentials the workers find."""
    quota = RateLimiter(connection)
    for source in here.source_contexts:
        quota.release(source, CREDENTIALS)
    for source, why in here.unserved.items():
        quota.record_error(source, CREDENTIALS, f"{why.removeprefix(f'source {source}: ')}; then start the workers again")


def _pause() -> float:
    return _PAUSE + random.uniform(0, _JITTER)  # noqa: S311


app.steps["worker"].add(Sweeper)
