"""Messages of other programs become sync requests; each is acknowledged once that is committed.

A thread with a connection of its own: neither a slow database nor a broker that is away holds up Celery, and both are waited for
as long as it takes. What is not acknowledged comes back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery import bootsteps
from kombu import Connection, Consumer, Producer
from kombu.utils.json import loads

from worker import logs, runtime
from worker.core.errors import MessageRejectedError, StoreUnavailableError
from worker.core.reprocess import MAX_KEYS, ReprocessRequest, is_json, read_message
from worker.queue.brokers import REJECTED, REJECTED_QUEUE, REPROCESS_QUEUE, declare, keeping_connection
from worker.queue.celery_app import app
from worker.queue.wakeups import wakeup_sender
from worker.settings import DEFAULT_SOURCE
from worker.sync.reprocess import reprocess

log = logs.get(__name__)

#: Messages that are taken and not yet acknowledged, beside refused ones that wait to be set aside.
_PREFETCH = 20

#: Bytes of refused messages that wait, beyond which no others are taken; each counts for `_LEAST` in any case.
_HELD, _LEAST = 32 * 1024 * 1024, 4096

#: Seconds: to wait for the first message and for the next; to wait for the broker's confirmation; that a stop takes at most.
_FIRST, _NEXT, _CONFIRM, _STOP = 1.0, 0.01, 5, 5

#: Seconds between two tries with a broker or a database that is away, at first and at most.
_PAUSE, _PAUSE_MOST = 1.0, 10.0


class Intake:
    """`run` takes messages until `stop`. Each `ring` tells that there are new requests."""

    def __init__(self, here: runtime.Runtime, *, wake_workers: Callable[[], object]) -> None:
        self._here = here
        self._ring = wake_workers
        self._stopped = threading.Event()
        url = here.settings.broker_url
        self._url = url.get_secret_value() if url else None
        self._readable: list[tuple[Any, ReprocessRequest]] = []
        self._refused: list[tuple[Any, str]] = []
        self._room = _PREFETCH
        self._full = False
        self._broker = _Patience("messages of other programs cannot be taken", "messages of other programs are taken again")
        self._aside = _Patience("refused messages cannot be set aside; they wait", "refused messages are set aside again")
        self._database = _Patience("database does not take requests; their messages wait", "database takes requests again")

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        """A broker that refuses, hangs or breaks is tried again for ever."""
        while not self._stopped.is_set():
            connection = keeping_connection(self._url, self._here.settings.queue_folder)
            try:
                self._take(connection)
            except Exception as error:
                self._broker.lost(f"{type(error).__name__}: {error}")
            finally:
                # All of them come back, to whoever is there.
                self._readable.clear()
                self._refused.clear()
                with suppress(Exception):
                    connection.release()
            self._stopped.wait(self._broker.pause)

    def _take(self, connection: Connection) -> None:
        connection.connect()
        declare(connection, REPROCESS_QUEUE)
        # Where this one cannot be made, only those wait that belong into it.
        with suppress(*connection.channel_errors):
            declare(connection, REJECTED_QUEUE)
        self._room = _PREFETCH
        consumer = connection.Consumer(
            [REPROCESS_QUEUE],
            auto_declare=False,
            prefetch_count=self._room,
            on_message=self._read,
            on_decode_error=lambda message, _error: self._read(message),
        )
        with consumer:
            while not self._stopped.is_set():
                self._drain(connection)
                if self._database.is_due:
                    self._settle()
                if self._refused and self._aside.is_due:
                    self._set_aside(connection)
                self._make_room(consumer)
                self._broker.found()

    def _drain(self, connection: Connection) -> None:
        with suppress(TimeoutError):
            connection.drain_events(timeout=_FIRST)
            for _ in range(_PREFETCH - 1):
                connection.drain_events(timeout=_NEXT)
        connection.heartbeat_check()

    def _read(self, message: Any) -> None:
        try:
            asked = read_message(_body(message), sources=self._here.sources, default=DEFAULT_SOURCE)
        except MessageRejectedError as refusal:
            self._refused.append((message, str(refusal)))
        else:
            self._readable.append((message, asked))

    def _set_aside(self, connection: Connection) -> None:
        """Whatever the broker has against it (the queue is full, publishing is forbidden) concerns refused messages alone."""
        try:
            # An error of the broker's closes the channel, and with it everything that was taken through it.
            declare(connection, REJECTED_QUEUE)
            with connection.channel() as channel:
                for _ in range(len(self._refused)):
                    message, reason = self._refused[0]
                    _publish(channel, _body(message), reason)
                    message.ack()
                    del self._refused[0]
                    log.warning("message refused", queue=REJECTED, reason=reason)
        except Exception as error:
            # The next one is the first to be tried again: this one may be at fault itself.
            self._refused.append(self._refused.pop(0))
            self._aside.lost(f"{type(error).__name__}: {error}")
        else:
            self._aside.found()

    def _make_room(self, consumer: Consumer) -> None:
        """Refused messages that wait leave as many others on their way as ever."""
        waiting = len(self._refused)
        if _PREFETCH // 2 <= self._room - waiting <= _PREFETCH * 2:
            return
        full = sum(max(len(message.body or b""), _LEAST) for message, _ in self._refused) > _HELD
        if full and not self._full:
            log.error("too many refused messages wait; no others are taken", count=waiting, queue=REJECTED)
        self._full = full
        if not full:
            self._room = waiting + _PREFETCH
            # RabbitMQ does not change what an open consumer may take. What it took stays taken.
            consumer.cancel()
            consumer.qos(prefetch_count=self._room)
            consumer.consume()

    def _settle(self) -> None:
        while self._readable and not self._stopped.is_set():
            group = _some(self._readable)
            try:
                reprocess(self._here.store, [asked for _, asked in group], now=runtime.now())
            except StoreUnavailableError as error:
                self._database.lost(str(error))
                return
            self._database.found()
            self._ring()
            for message, _ in group:
                message.ack()
            del self._readable[: len(group)]


class _Patience:
    """How long to leave something alone that is away; says once that it is, and once that it is back."""

    def __init__(self, gone: str, back: str) -> None:
        self._gone, self._back = gone, back
        self._until = 0.0
        self._away = False
        self.pause = _PAUSE

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._until

    def lost(self, error: str) -> None:
        if self._away:
            self.pause = min(self.pause * 2, _PAUSE_MOST)
        else:
            log.warning(self._gone, error=error)
        self._away = True
        self._until = time.monotonic() + self.pause

    def found(self) -> None:
        if self._away:
            log.info(self._back)
        self._away, self.pause = False, _PAUSE


def _some(readable: list[tuple[Any, ReprocessRequest]]) -> list[tuple[Any, ReprocessRequest]]:
    """The first messages, as many as one transaction should take."""
    group: list[tuple[Any, ReprocessRequest]] = []
    media = 0
    for each in readable:
        media += len(each[1].keys)
        if group and media > MAX_KEYS:
            break
        group.append(each)
    return group


def _publish(channel: Any, body: bytes, reason: str) -> None:
    # `mandatory` and the confirmation: the broker says that the message is in a queue, or this raises.
    Producer(channel).publish(
        body,
        routing_key=REJECTED_QUEUE.name,
        headers={"reason": reason},
        **_label(body),
        mandatory=True,
        timeout=_CONFIRM,
        confirm_timeout=_CONFIRM,
    )


def _body(message: Any) -> bytes:
    body = message.body
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body or b"")


def _label(body: bytes) -> dict[str, str]:
    """What the body is, so that no reader of the rejected ones stumbles over it."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return {"content_type": "application/octet-stream", "content_encoding": "binary"}
    return {"content_type": "application/json" if is_json(body) and _opens(body) else "text/plain", "content_encoding": "utf-8"}


def _opens(body: bytes) -> bool:
    """Whether kombu's reader takes it, which makes objects of what calls itself one: {"__type__": …, "__value__": …}."""
    try:
        loads(body)
    except Exception:
        return False
    return True


class ReprocessConsumer(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs beside the pool, and before Celery's own connection to the broker stands."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._intake: Intake | None = None
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        self._intake = Intake(runtime.current(), wake_workers=wakeup_sender().send)
        self._thread = threading.Thread(target=self._intake.run, name="reprocess", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:
        if self._intake is not None and self._thread is not None:
            self._intake.stop()
            self._thread.join(timeout=_STOP)

    terminate = stop


app.steps["worker"].add(ReprocessConsumer)
