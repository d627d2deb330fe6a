"""Turn messages on the queue `vodsync.reprocess` into sync requests. A message is acknowledged after the commit.

The thread has a broker connection of its own, so neither a slow database nor a broker outage delays Celery. It retries both until
the worker stops. Messages that were not acknowledged are delivered again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from kombu import Connection, Consumer, Producer
from kombu.utils.json import loads

from worker import logs, runtime
from worker.background import BackgroundLoop
from worker.core.backoff import Backoff, FailureCounter
from worker.core.errors import MessageRejectedError, StoreUnavailableError, describe_error
from worker.core.reprocess import MAX_KEYS, ReprocessRequest, is_json, read_message
from worker.outage import Outage
from worker.queue.brokers import REJECTED, REJECTED_QUEUE, REPROCESS_QUEUE, declare, reliable_connection
from worker.queue.services.base import Service
from worker.queue.wakeups import wakeup_sender
from worker.runtime import Runtime
from worker.settings import DEFAULT_SOURCE
from worker.sync.reprocess import reprocess_in_parts

log = logs.get(__name__)

PREFETCH = 20  # messages delivered and not acknowledged, without the rejected ones that wait to be moved

#: No further messages are read while the rejected messages that wait to be moved are larger than this. A small message counts as
#: `MIN_MESSAGE_SIZE`.
MAX_REJECTED_SIZE = 32 * 1024 * 1024  # bytes
MIN_MESSAGE_SIZE = 4096  # bytes

FIRST_MESSAGE_TIMEOUT = 1.0  # seconds
NEXT_MESSAGE_TIMEOUT = 0.01  # seconds
CONFIRM_TIMEOUT = 5  # seconds

#: Between two tries while the broker or the database is down.
RETRY_PAUSE = Backoff(timedelta(seconds=1), timedelta(seconds=10))


class ReprocessConsumer(Service):
    """One thread that reads the queue."""

    grace_period = 5.0  # seconds

    def loops(self, concurrency: int) -> Iterator[BackgroundLoop]:
        consumer = MessageConsumer(runtime.current(), wake_workers=wakeup_sender().send)
        yield BackgroundLoop("reprocess-consumer", consumer.step, failure="reprocess consumer failed", interrupt=consumer.stop)


class MessageConsumer:
    """Reads messages and stores what they request. Calls `wake_workers` after each commit."""

    def __init__(self, current: Runtime, *, wake_workers: Callable[[], object]) -> None:
        self._runtime = current
        self._wake_workers = wake_workers
        self._stopped = threading.Event()
        url = current.settings.broker_url
        self._url = url.get_secret_value() if url else None
        self._accepted: list[tuple[Any, ReprocessRequest]] = []
        self._rejected: list[tuple[Any, str]] = []
        self._prefetch = PREFETCH
        self._is_full = False
        self._broker = _Retries("messages of other programs cannot be taken", "messages of other programs are taken again")
        self._rejected_queue = _Retries("rejected messages cannot be moved; they wait", "rejected messages are moved again")
        self._database = _Retries("database does not take requests; their messages wait", "database takes requests again")

    def stop(self) -> None:
        """Make `step` return after the message or transaction it is working on."""
        self._stopped.set()

    def step(self) -> float:
        """Connect, and consume until `stop` or an error. Return the seconds until the next try."""
        connection = reliable_connection(self._url, self._runtime.settings.queue_folder)
        try:
            self._consume(connection)
        except Exception as error:
            # Whatever the broker does, it is tried again: it may be restarted, reconfigured or repaired.
            self._broker.failed(describe_error(error))
        finally:
            # The broker delivers all of these again.
            self._accepted.clear()
            self._rejected.clear()
            with suppress(Exception):
                connection.release()
        return self._broker.pause

    def _consume(self, connection: Connection) -> None:
        connection.connect()
        declare(connection, REPROCESS_QUEUE)
        # If the queue for rejected messages cannot be declared, only rejected messages wait.
        with suppress(*connection.channel_errors):
            declare(connection, REJECTED_QUEUE)
        self._prefetch = PREFETCH
        consumer = connection.Consumer(
            [REPROCESS_QUEUE],
            auto_declare=False,
            prefetch_count=self._prefetch,
            on_message=self._read,
            on_decode_error=lambda message, _error: self._read(message),
        )
        with consumer:
            while not self._stopped.is_set():
                self._receive(connection)
                if self._database.is_due:
                    self._store_requests()
                if self._rejected and self._rejected_queue.is_due:
                    self._move_rejected(connection)
                self._adjust_prefetch(consumer)
                self._broker.recovered()

    def _receive(self, connection: Connection) -> None:
        with suppress(TimeoutError):
            connection.drain_events(timeout=FIRST_MESSAGE_TIMEOUT)
            for _ in range(PREFETCH - 1):
                connection.drain_events(timeout=NEXT_MESSAGE_TIMEOUT)
        connection.heartbeat_check()

    def _read(self, message: Any) -> None:
        try:
            request = read_message(_body(message), sources=self._runtime.sources, default=DEFAULT_SOURCE)
        except MessageRejectedError as error:
            self._rejected.append((message, str(error)))
        else:
            self._accepted.append((message, request))

    def _store_requests(self) -> None:
        while self._accepted and not self._stopped.is_set():
            group = _first_group(self._accepted)
            try:
                result = reprocess_in_parts(self._runtime.store, group, now=self._runtime.store.now())
            except StoreUnavailableError as error:
                self._database.failed(str(error))
                return
            self._database.recovered()
            if result.stored:
                self._wake_workers()
            for message, _ in result.stored:
                message.ack()
            self._rejected += [(message, reason) for (message, _), reason in result.refused]
            del self._accepted[: len(group)]

    def _move_rejected(self, connection: Connection) -> None:
        """Publish rejected messages to `vodsync.reprocess.rejected`, with the reason in a header.

        If the broker refuses (the queue is full, publishing is forbidden), only the rejected messages wait.
        """
        try:
            # On a channel of their own: an error closes the channel, and with it all deliveries that came through it.
            declare(connection, REJECTED_QUEUE)
            with connection.channel() as channel:
                for _ in range(len(self._rejected)):
                    message, reason = self._rejected[0]
                    _publish_rejected(channel, _body(message), reason)
                    message.ack()
                    del self._rejected[0]
                    log.warning("message rejected", queue=REJECTED, reason=reason)
        except Exception as error:
            # Begin with the next message next time: this one may be the cause.
            self._rejected.append(self._rejected.pop(0))
            self._rejected_queue.failed(describe_error(error))
        else:
            self._rejected_queue.recovered()

    def _adjust_prefetch(self, consumer: Consumer) -> None:
        """Raise the prefetch count by the number of rejected messages that wait, so that they do not block others."""
        waiting = len(self._rejected)
        if PREFETCH // 2 <= self._prefetch - waiting <= PREFETCH * 2:
            return
        is_full = sum(max(len(message.body or b""), MIN_MESSAGE_SIZE) for message, _ in self._rejected) > MAX_REJECTED_SIZE
        if is_full and not self._is_full:
            log.error("too many rejected messages wait; no others are taken", count=waiting, queue=REJECTED)
        self._is_full = is_full
        if not is_full:
            self._prefetch = waiting + PREFETCH
            # RabbitMQ does not change the prefetch count of an open consumer. Messages already delivered stay with us.
            consumer.cancel()
            consumer.qos(prefetch_count=self._prefetch)
            consumer.consume()


class _Retries:
    """When to try something again that failed. Logs when the failures start, once a minute, and when they end."""

    def __init__(self, failure: str, recovery: str) -> None:
        self._failure = failure
        self._recovery = recovery
        self._failures = FailureCounter(RETRY_PAUSE)
        self._outage = Outage()
        self._retry_at = 0.0
        self.pause = 0.0  # seconds

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._retry_at

    def failed(self, error: str) -> None:
        if self._outage.failed(error):
            log.warning(self._failure, error=error)
        self.pause = self._failures.failed().total_seconds()
        self._retry_at = time.monotonic() + self.pause

    def recovered(self) -> None:
        if self._outage.recovered():
            log.info(self._recovery)
        self._failures.reset()
        self.pause = 0.0


def _first_group(accepted: list[tuple[Any, ReprocessRequest]]) -> list[tuple[Any, ReprocessRequest]]:
    """Return the first messages, with at most `MAX_KEYS` assets altogether, or a single larger message."""
    group: list[tuple[Any, ReprocessRequest]] = []
    assets = 0
    for message, request in accepted:
        assets += len(request.keys)
        if group and assets > MAX_KEYS:
            break
        group.append((message, request))
    return group


def _publish_rejected(channel: Any, body: bytes, reason: str) -> None:
    # With `mandatory` and a confirmation this returns only if the message is in a queue; otherwise it raises.
    Producer(channel).publish(
        body,
        routing_key=REJECTED_QUEUE.name,
        headers={"reason": reason},
        **_content_headers(body),
        mandatory=True,
        timeout=CONFIRM_TIMEOUT,
        confirm_timeout=CONFIRM_TIMEOUT,
    )


def _body(message: Any) -> bytes:
    body = message.body
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body or b"")


def _content_headers(body: bytes) -> dict[str, str]:
    """Return the content type that fits `body`, so that kombu can decode the rejected message."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return {"content_type": "application/octet-stream", "content_encoding": "binary"}
    is_json_for_kombu = is_json(body) and _is_readable_by_kombu(body)
    return {"content_type": "application/json" if is_json_for_kombu else "text/plain", "content_encoding": "utf-8"}


def _is_readable_by_kombu(body: bytes) -> bool:
    """kombu refuses some valid JSON: it tries to build an object from {"__type__": …, "__value__": …}."""
    try:
        loads(body)
    except Exception:
        return False
    return True
