"""Send the periodic sweep task (`vodsync work --beat`, `celery beat`)."""

from __future__ import annotations

from typing import Any

from celery.beat import Scheduler as CeleryScheduler

from worker import logs
from worker.core.errors import describe_error
from worker.outage import Outage

log = logs.get(__name__)


class Scheduler(CeleryScheduler):  # type: ignore[misc]  # Celery has no types
    """Keeps no schedule file, unlike Celery's default: a sweep that is sent twice or not at all costs only seconds."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._broker = Outage()
        super().__init__(*arguments, **options)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:
            message = describe_error(error)
            if self._broker.failed(message):
                log.warning("beat cannot reach the broker; the workers' sweep finds the work", task=entry.task, error=message)
        else:
            if self._broker.recovered():
                log.info("beat reaches the broker again", task=entry.task)
