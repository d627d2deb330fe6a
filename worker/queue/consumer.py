"""Keep a worker connected to a broker that fails or refuses commands: pause before each new connection."""

from __future__ import annotations

import time
from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from worker import logs
from worker.core.errors import describe_error
from worker.outage import Outage

log = logs.get(__name__)

RETRY_PAUSE = 2.0  # seconds between two connections
STOP_CHECK_INTERVAL = 0.1  # seconds
STABLE_CONNECTION_TIME = 10.0  # seconds after which a connection counts as working


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer with a pause after each failure.

    A broker can accept a connection and refuse each command, like a Redis that is read-only after a failover or cannot save. Celery
    alone would then reconnect without a pause.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._outage = Outage()
        self._connected_at: float | None = None
        super().__init__(*arguments, **options)

    def on_ready(self) -> None:
        self._connected_at = time.monotonic()
        super().on_ready()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._pause(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        super().on_connection_error_after_connected(exc)
        self._pause(exc)

    def _pause(self, error: Exception) -> None:
        # Celery reports no success other than the connection, which proves nothing. So an outage ends if a connection lasted.
        if self._connected_at is not None and time.monotonic() - self._connected_at > STABLE_CONNECTION_TIME:
            self._outage.recovered()
        self._connected_at = None
        message = describe_error(error)
        if self._outage.failed(message):
            log.warning("worker receives no wake-ups from the broker; the sweep finds the work", error=message)
        resume_at = time.monotonic() + RETRY_PAUSE
        while time.monotonic() < resume_at and state.should_stop is None and state.should_terminate is None:
            time.sleep(STOP_CHECK_INTERVAL)
