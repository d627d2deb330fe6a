"""Send wake-ups to the workers from a background thread, so that a slow or broken broker never delays the caller."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from worker import logs
from worker.background import BackgroundLoop
from worker.core.errors import describe_error
from worker.outage import Outage
from worker.queue.brokers import MAX_WAKEUPS
from worker.queue.celery_app import app

log = logs.get(__name__)

MIN_INTERVAL = 0.1  # seconds between two wake-ups of this process
PROBE_INTERVAL = 10.0  # seconds without a wake-up after which the broker is checked
EXPIRATION = 60  # seconds after which RabbitMQ drops a wake-up; other brokers keep up to MAX_WAKEUPS of them
POOL_TIMEOUT = 5  # seconds to wait for a free connection
CLOSE_TIMEOUT = 2.0  # seconds


class WakeupSender:
    """`send` returns at once. If a wake-up cannot be sent, the workers' sweep finds the work."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._outage = Outage()
        self._loop = BackgroundLoop(
            "wake-ups", self._step, failure="wake-ups failed", initial_delay=PROBE_INTERVAL, finish=self._send_requested
        )
        self._loop.start()

    @property
    def error(self) -> str | None:
        """Why wake-ups cannot be sent; None if they can."""
        return self._outage.error

    def send(self) -> None:
        """Wake one worker. Several calls in quick succession may become one wake-up."""
        self._requested.set()
        self._loop.wake()

    def close(self) -> None:
        """Send what was requested and end. Waits for at most `CLOSE_TIMEOUT`."""
        self._loop.stop()
        self._loop.join(CLOSE_TIMEOUT)

    def _step(self) -> float:
        self._send_requested(probe=True)
        self._loop.pause(MIN_INTERVAL)
        # A wake-up that was requested meanwhile has set the loop's event and is sent at once.
        return PROBE_INTERVAL

    def _send_requested(self, *, probe: bool = False) -> None:
        requested = self._requested.is_set()
        if not requested and not probe:
            return
        if requested:
            self._requested.clear()
        try:
            with app.pool.acquire(block=True, timeout=POOL_TIMEOUT) as connection:
                waiting = _count_wakeups(connection)
                # During an outage only a wake-up that is sent proves that the next one can be. One too many does no harm.
                if self._outage.active or (requested and waiting < MAX_WAKEUPS):
                    # Not `expires`: Celery compares it with the clock of the worker's machine, which may be minutes off.
                    app.send_task(
                        "vodsync.sync_batch", connection=connection, expiration=EXPIRATION, ignore_result=True, retry=False
                    )
        except Exception as error:
            message = describe_error(error)
            if self._outage.failed(message):
                log.warning("broker does not take wake-ups; the sweep finds the work", error=message)
        else:
            if self._outage.recovered():
                log.info("broker takes wake-ups again")


def _count_wakeups(connection: Any) -> int:
    """Return how many wake-ups are waiting in the queue. Declares the queue if it does not exist."""
    queue = app.conf.task_queues[0].bind(connection.default_channel)
    return int(queue.queue_declare().message_count or 0)


@cache
def wakeup_sender() -> WakeupSender:
    """Return this process's sender. The first call starts its thread."""
    return WakeupSender()
