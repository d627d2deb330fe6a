"""Record every few seconds in the database that this worker is alive."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from worker import logs, runtime
from worker.background import BackgroundLoop
from worker.core.errors import StoreUnavailableError
from worker.outage import Outage
from worker.queue.services.base import Service
from worker.runtime import Runtime
from worker.store.heartbeats import Heartbeat, Heartbeats
from worker.store.rate_limit import CREDENTIALS, RateLimiter

log = logs.get(__name__)

INTERVAL = 2.0  # seconds
JITTER = 1.0  # seconds


class HeartbeatSender(Service):
    """One thread. The first heartbeat also resets back-offs and reports sources without credentials."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._database = Outage()
        self._first = True
        self._started_at: datetime | None = None

    def loops(self, concurrency: int) -> Iterator[BackgroundLoop]:
        yield BackgroundLoop("heartbeat", self.step, failure="heartbeat failed", finish=self._deregister)

    def step(self) -> float:
        """Send one heartbeat. Return the seconds until the next one."""
        try:
            runtime.current().store.transact(self._beat)
        except StoreUnavailableError as error:
            if self._database.failed(str(error)):
                log.warning("heartbeat postponed", error=str(error))
        else:
            if self._database.recovered():
                log.info("heartbeats are recorded again")
        if self._first:
            self._first = False
            self._reset_back_offs()
        return INTERVAL + random.uniform(0, JITTER)  # noqa: S311  # spreads the load; not a secret

    def _beat(self, connection: Connection) -> None:
        current = runtime.current()
        now = current.store.now()
        self._started_at = self._started_at or now
        clock_ahead = round(current.store.clock.machine_ahead.total_seconds())
        Heartbeats(connection).beat(Heartbeat(current.name, self._started_at, now, current.claimed_at, clock_ahead))

    def _reset_back_offs(self) -> None:
        """Let calls to VOD be tried at once: this worker may have been started with corrected keys."""
        current = runtime.current()
        try:
            current.store.transact(lambda connection: RateLimiter(connection).retry_now())
            current.store.transact(lambda connection: _record_credentials(connection, current))
        except StoreUnavailableError as error:
            log.warning("back-offs were not reset; calls to VOD wait until they end", error=str(error))

    def _deregister(self) -> None:
        current = runtime.current()
        try:
            current.store.transact(lambda connection: Heartbeats(connection).remove(current.name))
        except StoreUnavailableError as error:
            log.warning("failed to deregister worker", error=str(error))


def _record_credentials(connection: Connection, current: Runtime) -> None:
    """Store which sources this worker found no credentials for, so that `vodsync status` can show it from any machine."""
    limiter = RateLimiter(connection)
    for source in current.source_contexts:
        limiter.clear_error(source, CREDENTIALS)
    for source, error in current.unserved.items():
        limiter.record_error(source, CREDENTIALS, f"{error.removeprefix(f'source {source}: ')}; then start the workers again")
