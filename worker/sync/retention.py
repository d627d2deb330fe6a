"""Delete old notifications, finished jobs and the lists that such jobs made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from threading import Event

from sqlalchemy import Connection

from worker import logs
from worker.store import Store
from worker.store.jobs.job_rows import Jobs
from worker.store.jobs.schedule import Schedule
from worker.store.jobs.seen_media import SeenMedia
from worker.store.retention import DeletedPage, Retention

log = logs.get(__name__)

#: The schedule is one for all sources. No source can have this name.
_ALL_SOURCES = "*"

_SCHEDULE = "retention"
INTERVAL = timedelta(hours=1)

#: A run ends after this time, as its process has other work. The next one may start `CONTINUE_AFTER` after it started.
MAX_RUN_TIME = 5.0  # seconds
CONTINUE_AFTER = timedelta(seconds=10)

PAGE_SIZE = 1000  # rows per transaction
PAUSE = 0.02  # seconds between two transactions, for those of other processes


@dataclass(frozen=True, slots=True)
class RetentionPeriods:
    """How long rows are kept; None means for ever."""

    notifications: timedelta | None
    jobs: timedelta | None


class Pruner:
    """Deletes old rows in small transactions. Each worker has one; the schedule in the database decides which of them runs."""

    def __init__(self, store: Store, periods: RetentionPeriods, *, max_run_time: float = MAX_RUN_TIME) -> None:
        """A run ends `max_run_time` seconds after it started."""
        self._store = store
        self._periods = periods
        self._max_run_time = max_run_time
        #: The next run continues after the notification with this id, and does not read again what stays.
        self._after_id = 0

    def prune_if_due(self, *, now: datetime, stopping: Event) -> bool:
        """Delete old rows if no worker did in the last hour. Return False if it was not due.

        If a run does not finish, the next one is due `CONTINUE_AFTER` after it started. Raises StoreUnavailableError.
        """
        if not self._store.transact(
            lambda connection: Schedule(connection).advance_if_due(_ALL_SOURCES, _SCHEDULE, INTERVAL, now=now, at_once=True)
        ):
            return False
        if not self.prune(now=now, stopping=stopping):
            next_run = now + CONTINUE_AFTER
            self._store.transact(lambda connection: Schedule(connection).reschedule(_ALL_SOURCES, _SCHEDULE, at=next_run))
        return True

    def prune(self, *, now: datetime, stopping: Event) -> bool:
        """Delete old rows. Return False if some may be left. Raises StoreUnavailableError."""
        deadline, periods = time.monotonic() + self._max_run_time, self._periods
        _, is_complete = self._repeat(lambda connection: SeenMedia(connection).forget(PAGE_SIZE), stopping, deadline)
        if not is_complete:
            return False
        if periods.jobs is not None and not self._prune_jobs(periods.jobs, now, stopping, deadline):
            return False
        return periods.notifications is None or self._prune_notifications(periods.notifications, now, stopping, deadline)

    def _prune_notifications(self, age: timedelta, now: datetime, stopping: Event, deadline: float) -> bool:
        count, is_complete = 0, False
        while not stopping.is_set():
            page = self._store.transact(partial(_delete_page, before=now - age, after=self._after_id))
            count += page.count
            self._after_id, is_complete = page.last or 0, page.last is None
            if is_complete or time.monotonic() >= deadline:
                break
            stopping.wait(PAUSE)
        if count:
            log.info("notifications pruned", count=count, days=age.days)
        return is_complete

    def _prune_jobs(self, age: timedelta, now: datetime, stopping: Event, deadline: float) -> bool:
        count, is_complete = self._repeat(
            lambda connection: Jobs(connection).prune(before=now - age, limit=PAGE_SIZE), stopping, deadline
        )
        if count:
            log.info("jobs pruned", count=count, days=age.days)
        return is_complete

    def _repeat(self, delete_page: Callable[[Connection], int], stopping: Event, deadline: float) -> tuple[int, bool]:
        """Delete page after page. Return how many rows were deleted, and whether those were all."""
        count, is_complete = 0, False
        while not stopping.is_set():
            deleted = self._store.transact(delete_page)
            count, is_complete = count + deleted, not deleted
            if is_complete or time.monotonic() >= deadline:
                break
            stopping.wait(PAUSE)
        return count, is_complete


def _delete_page(connection: Connection, before: datetime, after: int) -> DeletedPage:
    return Retention(connection).delete_page(before=before, after=after, limit=PAGE_SIZE)
