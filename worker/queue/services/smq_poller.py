"""Read the queues to which VOD writes events (`vodsync work --smq`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from worker import logs, runtime
from worker.background import BackgroundLoop
from worker.core.backoff import HALF_JITTER, Backoff, FailureCounter
from worker.core.errors import StoreUnavailableError, VodCredentialsError, VodError, VodRefusedError, describe_error
from worker.outage import Outage
from worker.queue.services.base import Service
from worker.queue.wakeups import wakeup_sender
from worker.runtime import Runtime
from worker.sync.poll_smq import RedeliveryCounter, poll_queue
from worker.sync.receive import NotificationWriter

if TYPE_CHECKING:
    from worker.vod.smq import Queue

log = logs.get(__name__)

#: How long a call waits for a message. The queue allows 30 s.
LONG_POLL = 20  # seconds

#: The pause after a poll that returned nothing before its time (the vendor does so if there are too many polls at once), and after
#: messages that were stored but could not be deleted.
SHORT_PAUSE = Backoff(timedelta(seconds=1), timedelta(seconds=1), jitter=HALF_JITTER)

#: After failures that end by themselves. The jitter spreads the polls of several workers.
RETRY_PAUSE = Backoff(timedelta(seconds=1), timedelta(seconds=30), jitter=HALF_JITTER)

#: After failures that an operator has to repair.
REFUSED_PAUSE = Backoff(timedelta(seconds=5), timedelta(minutes=1))


class SmqPoller(Service):
    """One thread for each source that has a queue."""

    #: A batch gets this long to be committed and deleted. Messages that are not deleted are delivered again.
    grace_period = 5.0  # seconds

    def include_if(self, parent: Any) -> bool:
        return runtime.current().reads_queues

    def loops(self, concurrency: int) -> Iterator[BackgroundLoop]:
        from worker.vod.smq import Queue  # imports the vendor's credential chain, which only --smq needs

        current = runtime.current()
        for name, source in current.require_queues().items():
            poller = QueuePoller(current, name, Queue(source, warn=log.warning))
            yield BackgroundLoop(
                f"smq-poller {name}",
                poller.step,
                failure="queue poller failed",
                interrupt=poller.interrupt,
                finish=poller.close,
            )
            log.info("queue poller started", source=name, queue=source.smq_queue)


class QueuePoller:
    """Reads the queue of one source."""

    def __init__(self, current: Runtime, source: str, queue: Queue) -> None:
        self._runtime = current
        self._source = source
        self._queue = queue
        self._writer = NotificationWriter(current.store, current.refused, now=current.store.now)
        self._redeliveries = RedeliveryCounter()
        self._retries = FailureCounter(RETRY_PAUSE)
        self._refusals = FailureCounter(REFUSED_PAUSE)
        self._outage = Outage()
        self._deletion_outage = Outage()
        self._database_is_down = False

    def step(self) -> float:
        """Receive, store and delete one batch of messages. Return the seconds until the next call."""
        started = time.monotonic()
        try:
            if self._database_is_down:
                # A message that is received while it cannot be stored comes back only after its visibility timeout.
                self._require_database()
            result = poll_queue(
                self._writer,
                self._queue,
                self._source,
                wait=LONG_POLL,
                max_attempts=self._runtime.settings.max_attempts,
                redeliveries=self._redeliveries,
                now=self._runtime.store.now,
                wake_workers=wakeup_sender().send,
            )
        except Exception as error:
            return self._failed(error)
        self._retries.reset()
        self._refusals.reset()
        self._database_is_down = False
        if self._outage.recovered():
            log.info("queue is read again", source=self._source)
        if result.undeleted:
            self._log_undeleted(result.undeleted)
            # The queue hides these messages for a while. New ones must not wait until the cause is repaired.
            return SHORT_PAUSE.delay(1).total_seconds()
        too_early = not result.received and time.monotonic() - started < LONG_POLL / 2
        return SHORT_PAUSE.delay(1).total_seconds() if too_early else 0.0

    def interrupt(self) -> None:
        """End a long poll at once. A batch that was received is finished."""
        self._queue.interrupt()

    def close(self) -> None:
        self._queue.close()
        log.info("queue poller stopped", source=self._source, queue=self._queue.name)

    def _failed(self, error: Exception) -> float:
        """Log `error`. Return the seconds until the next try."""
        match error:
            case StoreUnavailableError():
                self._database_is_down = True
                if self._outage.failed(str(error), kind="database"):
                    log.warning("queue messages postponed", source=self._source, error=str(error))
            case VodRefusedError() | VodCredentialsError():
                if self._outage.failed(str(error), kind="refused"):
                    log.error("queue cannot be read", source=self._source, error=str(error), request_id=error.request_id)
                return self._refusals.failed().total_seconds()
            case VodError():
                if self._outage.failed(str(error), kind="unavailable"):
                    log.warning("queue did not answer", source=self._source, error=str(error), request_id=error.request_id)
            case _:
                if self._outage.failed(describe_error(error), kind=type(error).__name__):
                    log.error("queue poller failed", source=self._source, exc_info=error)
        return self._retries.failed().total_seconds()

    def _log_undeleted(self, error: VodError) -> None:
        # The end is not logged: single deletions can fail and succeed in turn.
        if self._deletion_outage.failed(str(error)):
            level = log.error if isinstance(error, VodRefusedError | VodCredentialsError) else log.warning
            level(
                "queue messages are stored, but cannot be deleted; they are delivered again and recognised",
                source=self._source,
                code=error.code,
                error=str(error),
                request_id=error.request_id,
            )

    def _require_database(self) -> None:
        with self._runtime.store.reading() as connection:
            connection.execute(select(1))
