"""A worker's ear at the broker: whatever the broker says or does, the worker lives on by its own clock and listens again."""

from __future__ import annotations

import time
from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from worker import logs

log = logs.get(__name__)

#: Seconds between two tries to listen, and between two looks whether the worker is to stop.
_PAUSE, _LOOK = 2.0, 0.1


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Pauses before it connects again.

    A broker can take the connection and refuse each command (a Redis that is read-only after a failover, or cannot save); Celery
    would begin again at once.
    """

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._pause(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        super().on_connection_error_after_connected(exc)
        self._pause(exc)

    def _pause(self, error: Any) -> None:
        log.warning("broker does not give wake-ups; the sweep finds the work", error=f"{type(error).__name__}: {error}")
        until = time.monotonic() + _PAUSE
        while time.monotonic() < until and state.should_stop is None and state.should_terminate is None:
            time.sleep(_LOOK)
