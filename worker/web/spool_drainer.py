"""Spool notifications while the database is down, and move them into the database when it is back."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker import logs
from worker.background import BackgroundLoop
from worker.core.errors import StaleSchemaError, StoreUnavailableError, describe_error
from worker.outage import Outage
from worker.store import Store, schema
from worker.store.inbox.notifications import Delivery
from worker.store.spool import Spool, Spooled

log = logs.get(__name__)

OUTAGE_POLL_INTERVAL = 0.5  # seconds between two tries while the database is down
POLL_INTERVAL = 5.0  # seconds between two looks into the spool otherwise
CLOSE_TIMEOUT = 2.0  # seconds

_SLOW_DATABASE = "the database does not take notifications in time"


class SpoolDrainer:
    """The fallback of group commit. A background thread calls `commit` with spooled deliveries, in order and in groups.

    Several receiver processes may share one spool. One of them moves the deliveries, and each of them notices that the database is
    back.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        commit: Callable[[Sequence[Delivery]], object],
        *,
        after_commit: Callable[[], object] = lambda: None,
    ) -> None:
        #: True from the first delivery that the database did not take in time until it takes deliveries again.
        self.database_is_down = False
        self._error: str | None = None
        self._outage = Outage()
        self._store = store
        self._spool = spool
        self._commit = commit
        self._after_commit = after_commit
        self._loop = BackgroundLoop("spool-drainer", self._step, failure="spool drainer failed")

    @property
    def error(self) -> str | None:
        """Why notifications are spooled; None while the database takes them."""
        return (self._error or _SLOW_DATABASE) if self.database_is_down else None

    def start(self, *, database_is_down: bool) -> None:
        """Start the thread. It begins with what an earlier process left in the spool."""
        self.database_is_down = database_is_down
        self._loop.start()

    def save(self, deliveries: Sequence[Delivery]) -> None:
        """Store `deliveries` durably in the spool. Raises StoreUnavailableError if that fails too."""
        self._spool.put(deliveries)
        if not self.database_is_down and self._outage.failed(_SLOW_DATABASE, kind="slow"):
            log.warning("database does not take notifications; they are spooled")
        self.database_is_down = True
        self._loop.wake()

    def close(self) -> None:
        """Stop the thread, and wait for at most `CLOSE_TIMEOUT`. What is spooled stays there for the next process."""
        self._loop.stop()
        self._loop.join(CLOSE_TIMEOUT)
        self._spool.close()

    def _step(self) -> float:
        try:
            self._move()
            self._error = None
        except (StoreUnavailableError, StaleSchemaError) as error:
            self._failed(str(error))
        except Exception as error:
            # An error of our own must not end the thread: later notifications could still be moved.
            self._failed(describe_error(error))
        if self.database_is_down:
            # Each delivery that is spooled wakes the loop, and must not lead to a try of its own.
            self._loop.pause(OUTAGE_POLL_INTERVAL)
            return 0.0
        return POLL_INTERVAL

    def _move(self) -> None:
        if not self.database_is_down and not self._spool.waiting().count:
            self._outage.recovered()
            return
        schema.check(self._store)
        moved = self._move_all()
        if self.database_is_down or moved:
            self.database_is_down = False
            self._outage.recovered()
            log.info("database takes notifications; the spool is empty", moved=moved)

    def _move_all(self) -> int:
        """Return how many deliveries were moved. 0 if another process is moving them."""
        moved = 0
        with _lock(self._spool.path) as acquired:
            while acquired and not self._loop.is_stopping and (count := self._spool.move_oldest(self._commit)):
                moved += count
                self._after_commit()
        return moved

    def _failed(self, error: str) -> None:
        self._error = error
        if self._outage.failed(error):
            waiting = self._waiting()
            log.error("database is down", error=error, spooled=waiting.count, since=waiting.since)

    def _waiting(self) -> Spooled:
        try:
            return self._spool.waiting()
        except StoreUnavailableError:
            return Spooled(0, None)


@contextmanager
def _lock(spool: Path) -> Iterator[bool]:
    """Yield True if this process got the lock on the spool. The kernel releases it when the process ends, even if it is killed."""
    with spool.with_name(f"{spool.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
