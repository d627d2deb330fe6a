"""Rings for the workers, from a thread of its own: a broker that is slow, frozen or gone never delays who rings."""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any

from worker import logs
from worker.queue.brokers import ENOUGH_WAKE_UPS
from worker.queue.celery_app import app

log = logs.get(__name__)

#: Seconds: at most one wake-up in this time; a look at the broker when nobody rang for so long.
_REST, _PROBE = 0.1, 10.0


class WakeupSender:
    """`ring` returns at once. A wake-up that could not be sent is found by the sweep; `fault` says why, None while all is well."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.rung = 0
        self._rang = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._thread.start()

    def send(self) -> None:
        self._rang.set()

    def close(self) -> None:
        """Send what was rung, and end; waits two seconds at most."""
        self._closed.set()
        self._rang.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._closed.is_set():
            rang = self._rang.wait(timeout=_PROBE)
            self._rang.clear()
            try:
                if rang or self.fault:
                    # Only a wake-up that is sent proves that the next one can be; one too many does no harm.
                    self._send()
                else:
                    self._look()
            except Exception as error:
                self._note(f"{type(error).__name__}: {error}")
            else:
                self._note(None)
            time.sleep(_REST)

    def _send(self) -> None:
        with app.pool.acquire(block=True, timeout=5) as connection:
            if self._waiting(connection) < ENOUGH_WAKE_UPS or self.fault:
                app.send_task("vodsync.sync_batch", connection=connection, expires=60, ignore_result=True, retry=False)
                self.rung += 1

    def _look(self) -> None:
        with app.pool.acquire(block=True, timeout=5) as connection:
            self._waiting(connection)

    def _waiting(self, connection: Any) -> int:
        queue = app.conf.task_queues[0].bind(connection.default_channel)
        return int(queue.queue_declare().message_count or 0)

    def _note(self, fault: str | None) -> None:
        if fault and not self.fault:
            log.warning("broker does not take wake-ups; the sweep finds the work", error=fault)
        elif self.fault and not fault:
            log.info("broker takes wake-ups again")
        self.fault = fault


@cache
def wakeup_sender() -> WakeupSender:
    """This process's doorbell."""
    return WakeupSender()
