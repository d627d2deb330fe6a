"""A worker's second job, where it is asked for: to collect what VOD wrote to queues."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from sqlalchemy import select

from worker import logs, runtime
from worker.core.errors import StoreUnavailableError, VodCredentialsError, VodError, VodRefusedError
from worker.queue.celery_app import app
from worker.queue.wakeups import wakeup_sender
from worker.runtime import Runtime
from worker.sync.poll_smq import RedeliveryCounter, poll_queue

if TYPE_CHECKING:
    from worker.vod.smq import Queue

log = logs.get(__name__)

#: Seconds of a long poll; the queue allows thirty.
_WAIT = 20

#: Seconds after an answer that came too early (too many polls at once, says the vendor), and after messages that stay in the queue.
_EARLY = 1.0

#: Seconds after the first failure, and at most after many.
_FIRST, _CAP = 0.5, 30.0

#: The same where somebody has to change something first. A complaint is not made more often than that either.
_REFUSED, _MINUTE = 5.0, 60.0

#: Seconds that a batch gets to be committed and deleted when the worker stops. What is not deleted comes back.
_GRACE = 5.0


class QueuePoller:
    """One source's queue, read by one thread until it is stopped."""

    def __init__(self, here: Runtime, source: str, queue: Queue) -> None:
        self._here = here
        self._source = source
        self._queue = queue
        self._stopped = threading.Event()
        self._memory = RedeliveryCounter()
        self._failures = 0
        self._refusals = 0
        self._complained: float | None = None
        self._away = False
        self._thread = threading.Thread(target=self._run, name=f"collector-{source}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends a long poll at once; a batch that came is finished."""
        self._stopped.set()
        self._queue.interrupt()

    def join(self, deadline: float) -> None:
        """Wait until it ended, or until the monotonic clock says `deadline`."""
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        log.info("collecting from the queue", source=self._source, queue=self._queue.name)
        while not self._stopped.is_set():
            self._stopped.wait(self.step())
        self._queue.close()
        log.info("collecting ended", source=self._source, queue=self._queue.name)

    def step(self) -> float:
        """Take what there is; gives the seconds to wait before the next time."""
        began = time.monotonic()
        try:
            if self._away:
                # What is received now would come back only when its time is over.
                self._require_database()
            collected = poll_queue(
                self._here.store,
                self._queue,
                self._source,
                wait=_WAIT,
                max_attempts=self._here.settings.max_attempts,
                redeliveries=self._memory,
                now=runtime.now,
                wake_workers=wakeup_sender().send,
            )
        except StoreUnavailableError as error:
            self._away = True
            log.warning("queue messages postponed", source=self._source, error=str(error))
            return self._pause()
        except (VodRefusedError, VodCredentialsError) as error:
            log.error("queue cannot be read", source=self._source, error=str(error), request_id=error.request_id)
            self._refusals += 1
            return min(_MINUTE, _REFUSED * 2.0 ** min(self._refusals - 1, 10))
        except VodError as error:
            log.warning("queue did not answer", source=self._source, error=str(error), request_id=error.request_id)
            return self._pause()
        except Exception:
            # Whatever it was: a worker that no longer collects is worse.
            log.exception("collecting failed")
            return self._pause()
        self._failures, self._refusals, self._away = 0, 0, False
        if collected.undeleted:
            self._complain(collected.undeleted)
            # They stay away for a while; what comes meanwhile is not to wait for somebody who repairs this.
            return _EARLY * _jitter()
        early = not collected.received and time.monotonic() - began < _WAIT / 2
        return _EARLY * _jitter() if early and not self._stopped.is_set() else 0.0

    def _complain(self, error: VodError) -> None:
        """Say that messages cannot be deleted, and not again with each batch."""
        now = time.monotonic()
        if self._complained is not None and now - self._complained < _MINUTE:
            return
        self._complained = now
        fields = {"source": self._source, "code": error.code, "error": str(error), "request_id": error.request_id}
        tell = log.error if isinstance(error, VodRefusedError | VodCredentialsError) else log.warning
        tell("queue messages are stored, but cannot be deleted; they come again and are recognised", **fields)

    def _pause(self) -> float:
        """Longer with each failure, and never the same for two workers."""
        self._failures += 1
        return min(_CAP, _FIRST * 2.0 ** min(self._failures, 10)) * _jitter()

    def _require_database(self) -> None:
        with self._here.store.reading() as connection:
            connection.execute(select(1))


class SmqPoller(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs beside the pool, broker or no broker."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._running: list[QueuePoller] = []

    def include_if(self, parent: Any) -> bool:
        return runtime.current().collecting

    def start(self, parent: Any) -> None:
        from worker.vod.smq import Queue  # nobody else needs the vendor's credential chain and an HTTP client

        here = runtime.current()
        self._running = [QueuePoller(here, name, Queue(source, warn=log.warning)) for name, source in here.require_queues().items()]
        for each in self._running:
            each.start()

    def stop(self, parent: Any) -> None:
        for each in self._running:
            each.stop()
        deadline = time.monotonic() + _GRACE
        for each in self._running:
            each.join(deadline)

    terminate = stop


def _jitter() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311


app.steps["worker"].add(SmqPoller)
