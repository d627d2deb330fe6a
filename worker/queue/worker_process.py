"""Stop a Celery worker the way the other vodsync processes stop: in order at the first signal, at once at the second."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery.worker import state

from worker.queue.celery_app import app


class Worker(app.Worker):  # type: ignore[misc]  # Celery has no types
    """Replaces Celery's signal handlers, which print to stdout and make Ctrl-C a failure."""

    def install_platform_tweaks(self, _worker: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        if state.should_stop is not None:
            os._exit(128 + number)
        state.should_stop = os.EX_OK
