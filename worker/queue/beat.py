"""The clock of an installation: rings now and then for what a lost wake-up left behind."""

from __future__ import annotations

from typing import Any

from celery.beat import Scheduler as CeleryScheduler

from worker import logs

log = logs.get(__name__)


class Scheduler(CeleryScheduler):  # type: ignore[misc]
    """The schedule has no memory worth a file: each entry may fire twice, or never, and only seconds are lost."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:
            log.warning("clock does not reach the broker; the sweep finds the work", task=entry.task, error=str(error))
