"""What is old enough is forgotten: notifications, jobs that are over, and what such jobs listed."""

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
from worker.store.retention import Forgotten, Retention

log = logs.get(__name__)

#: Once for all sources; no source can have this name.
_EVERYWHERE, _NAME, _EVERY = "*", "retention", timedelta(hours=1)

#: Whoever prunes has other work to do: a look ends after so many seconds, and the next one may go on so long after it began.
_LONGEST, _REST = 5.0, timedelta(seconds=10)

#: Rows in one transaction, and seconds between two of them, in which others have their turn.
_PAGE, _PAUSE = 1000, 0.02


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what is kept; None is for ever."""

    notifications: timedelta | None
    jobs: timedelta | None


class Pruner:
    """One process's share of the work."""

    def __init__(self, store: Store, keep: Keep, *, longest: float = _LONGEST) -> None:
        """A look ends `longest` seconds after it began."""
        self._store = store
        self._keep = keep
        self._longest = longest
        #: The next look begins after this notification, so that it does not read again what stays.
        self._after = 0

    def look(self, *, now: datetime, stopping: Event) -> bool:
        """Forget what is old, once an hour, whichever worker asks first; what one look leaves is due again at once.

        True where it was us. Raises StoreUnavailable.
        """
        if not self._store.transact(
            lambda connection: Schedule(connection).advance_if_due(_EVERYWHERE, _NAME, _EVERY, now=now, at_once=True)
        ):
            return False
        if not self.prune(now=now, stopping=stopping):
            self._store.transact(lambda connection: Schedule(connection).reschedule(_EVERYWHERE, _NAME, at=now + _REST))
        return True

    def prune(self, *, now: datetime, stopping: Event) -> bool:
        """Forget what is old, in small transactions; False where something may be left. Raises StoreUnavailable."""
        deadline, keep = time.monotonic() + self._longest, self._keep
        _, done = self._repeat(lambda connection: SeenMedia(connection).forget(_PAGE), stopping, deadline)
        if not done:
            return False
        if keep.jobs is not None and not self._prune_jobs(keep.jobs, now, stopping, deadline):
            return False
        return keep.notifications is None or self._prune_notifications(keep.notifications, now, stopping, deadline)

    def _prune_notifications(self, age: timedelta, now: datetime, stopping: Event, deadline: float) -> bool:
        count, done = 0, False
        while not stopping.is_set():
            forgotten = self._store.transact(partial(_forget, before=now - age, after=self._after))
            count += forgotten.count
            self._after, done = forgotten.last or 0, forgotten.last is None
            if done or time.monotonic() >= deadline:
                break
            stopping.wait(_PAUSE)
        if count:
            log.info("notifications pruned", count=count, days=age.days)
        return done

    def _prune_jobs(self, age: timedelta, now: datetime, stopping: Event, deadline: float) -> bool:
        count, done = self._repeat(lambda connection: Jobs(connection).prune(before=now - age, limit=_PAGE), stopping, deadline)
        if count:
            log.info("jobs pruned", count=count, days=age.days)
        return done

    def _repeat(self, forget: Callable[[Connection], int], stopping: Event, deadline: float) -> tuple[int, bool]:
        """Forget page after page; how many those were, and whether that was all."""
        count, done = 0, False
        while not stopping.is_set():
            some = self._store.transact(forget)
            count, done = count + some, not some
            if done or time.monotonic() >= deadline:
                break
            stopping.wait(_PAUSE)
        return count, done


def _forget(connection: Connection, before: datetime, after: int) -> Forgotten:
    return Retention(connection).forget(before=before, after=after, limit=_PAGE)
