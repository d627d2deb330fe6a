"""What was spooled while the database was away moves there, in order and in groups, once it is back."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker import logs
from worker.core.errors import StaleSchemaError, StoreUnavailableError
from worker.store import Store, schema
from worker.store.inbox.notifications import Delivery
from worker.store.spool import Spool, Spooled

log = logs.get(__name__)

#: Seconds between two looks at the database while it is away, and at the spool while all is well; between two reminders in the log.
_AWAY, _WELL, _REMIND = 0.5, 5.0, 30.0


class SpoolDrainer:
    """`away` is true from the first delivery that the database did not take in time until it takes deliveries again.

    Several receiver processes may share one spool: one of them forwards, all of them notice that the database is back.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        move: Callable[[Sequence[Delivery]], object],
        *,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        self.away = False
        self._fault: str | None = None
        self._store = store
        self._spool = spool
        self._move = move
        self._after = after
        self._said_at = 0.0
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    @property
    def fault(self) -> str | None:
        """Why notifications are spooled; None while the database takes them."""
        return (self._fault or "the database does not take notifications in time") if self.away else None

    def start(self, *, away: bool) -> None:
        """Begin to forward what an earlier process left behind; `away` where the database was not there at the start."""
        self.away = away
        self._thread.start()

    def save(self, deliveries: Sequence[Delivery]) -> None:
        """Durable once this returns. Raises StoreUnavailable where the spool does not take them either."""
        self._spool.put(deliveries)
        if not self.away:
            log.warning("database does not take notifications; they are spooled")
            self._said_at = time.monotonic()
        self.away = True
        self._wake.set()

    def close(self) -> None:
        """What is spooled stays there for the next process. Waits two seconds at most."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        self._spool.close()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._step()
                self._fault = None
            except (StoreUnavailableError, StaleSchemaError) as error:
                self._remind(str(error))
            except Exception as error:
                # A fault of ours must not end the forwarding of everything that comes after.
                self._remind(f"{type(error).__name__}: {error}")
            if self.away:
                time.sleep(_AWAY)
            else:
                self._wake.wait(_WELL)
            self._wake.clear()

    def _step(self) -> None:
        if not self.away and not self._spool.waiting().count:
            return
        schema.check(self._store)
        moved = self._forward()
        if self.away or moved:
            self.away = False
            log.info("database takes notifications; the spool is empty", forwarded=moved)

    def _forward(self) -> int:
        moved = 0
        with _alone(self._spool.path) as alone:
            while alone and not self._closed and (count := self._spool.drain(self._move)):
                moved += count
                self._after()
        return moved

    def _remind(self, error: str) -> None:
        self._fault = error
        if time.monotonic() - self._said_at < _REMIND:
            return
        self._said_at = time.monotonic()
        waiting = self._waiting()
        log.error("database is still away", error=error, spooled=waiting.count, since=waiting.since)

    def _waiting(self) -> Spooled:
        try:
            return self._spool.waiting()
        except StoreUnavailableError:
            return Spooled(0, None)


@contextmanager
def _alone(spool: Path) -> Iterator[bool]:
    """True for the one process of this machine that may forward; the lock goes with the process, however that ends."""
    with spool.with_name(f"{spool.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
