"""Stop a Celery worker the way the other vodsync processes stop: in order at the first signal, at once at the second."""

from __future__ import annotations

import os
from typing import Any

from celery.apps.worker import Worker as CeleryWorker
from celery.worker import state

from worker import logs
from worker.process_signals import ignore_user_signals, on_stop

log = logs.get(__name__)


class Worker(CeleryWorker):  # type: ignore[misc]  # Celery has no types
    """Replaces Celery's signal handlers, which print to stdout, make Ctrl-C a failure and restart the program at SIGHUP."""

    def emit_banner(self) -> None:
        """Log the start, in place of Celery's banner on stdout, which waits for its reader."""
        log.info("worker started", name=self.hostname, concurrency=self.concurrency)

    def install_platform_tweaks(self, _worker: Any) -> None:
        on_stop(self._stop)
        ignore_user_signals()

    def _stop(self, number: int, _frame: object) -> None:
        if state.should_stop is not None:
            os._exit(128 + number)
        state.should_stop = os.EX_OK
