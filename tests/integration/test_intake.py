"""Messages of other programs while the broker does not accept those that vodsync refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kombu
import pytest
import redis
import sqlalchemy as sa

from tests.broker_harness import Broker
from tests.builders import Log
from tests.conftest import require
from worker import runtime, settings
from worker.background import BackgroundLoop
from worker.core.backoff import Backoff
from worker.store import Store
from worker.store.tables import sync_request

INVALID = b"no json"

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class ReprocessQueue:
    """A consumer of `broker`, and a queue for refused messages that accepts none after `refuse_rejected`."""

    def __init__(self, broker: Broker, store: Store, module: Any, log: Log) -> None:
        self.broker, self.store, self.log = broker, store, log
        self.rejected = f"{broker.name}.rejected"
        url = str(broker.url)
        self._client = redis.Redis.from_url(url) if url.startswith("redis") else None
        current: Any = SimpleNamespace(
            settings=settings.load(environ={"VODSYNC_BROKER_URL": url}), sources={"default": None}, store=store
        )
        consumer = module.MessageConsumer(current, wake_workers=lambda: None)
        #: How often the consumer tried to move refused messages.
        self.attempts = 0
        self._move_rejected = consumer._move_rejected
        consumer._move_rejected = self._count_and_move_rejected
        self._loop = BackgroundLoop("test", consumer.step, failure="failed", interrupt=consumer.stop)
        self.start = self._loop.start

    def refuse_rejected(self) -> None:
        if self._client:
            self._client.set(self.rejected, "not a list")
        else:
            arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
            self._amqp(lambda channel: channel.queue_declare(self.rejected, durable=True, auto_delete=False, arguments=arguments))

    def accept_rejected(self) -> None:
        if self._client:
            self._client.delete(self.rejected)
        else:
            self._amqp(lambda channel: channel.queue_delete(self.rejected))

    def _count_and_move_rejected(self, connection: kombu.Connection) -> None:
        self._move_rejected(connection)
        self.attempts += 1

    def rejected_count(self) -> int:
        if self._client:
            return int(self._client.llen(self.rejected))
        return int(self._amqp(lambda channel: channel.queue_declare(self.rejected, passive=True)).message_count)

    def requested(self) -> set[str]:
        with self.store.reading() as connection:
            return set(connection.execute(sa.select(sync_request.c.media_id)).scalars())

    def close(self) -> None:
        self._loop.stop()
        self._loop.join(timeout=60)
        self.accept_rejected()

    def _amqp(self, action: Callable[[Any], Any]) -> Any:
        with kombu.Connection(self.broker.url) as connection:
            return action(connection.default_channel)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(params=["redis", "rabbitmq"])
def reprocess_queue(
    request: pytest.FixtureRequest, tmp_path: Path, store: Store, log: Log, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReprocessQueue]:
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={})))
    from worker.queue.services import reprocess_consumer

    monkeypatch.setattr(reprocess_consumer, "FIRST_MESSAGE_TIMEOUT", 0.05)
    monkeypatch.setattr(reprocess_consumer, "RETRY_PAUSE", Backoff(timedelta(seconds=0.05), timedelta(seconds=0.1)))
    broker = Broker(require(request.param), tmp_path)
    broker.open().release()
    queue = ReprocessQueue(broker, store, reprocess_consumer, log)
    monkeypatch.setattr(reprocess_consumer, "REPROCESS_QUEUE", broker.queue)
    monkeypatch.setattr(reprocess_consumer, "REJECTED_QUEUE", kombu.Queue(queue.rejected, durable=True))
    monkeypatch.setattr(reprocess_consumer, "log", log)
    yield queue
    queue.close()
    broker.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_refused_messages_that_cannot_be_moved_do_not_block_the_others(reprocess_queue: ReprocessQueue, log: Log) -> None:
    reprocess_queue.refuse_rejected()
    reprocess_queue.start()

    for number in range(45):
        reprocess_queue.broker.push(INVALID)
        reprocess_queue.broker.push(b'{"media_ids": ["%d"]}' % number)
    eventually(lambda: len(reprocess_queue.requested()) == 45)
    attempts = reprocess_queue.attempts
    eventually(lambda: reprocess_queue.attempts >= attempts + 3)
    meanwhile = list(log.phrases)
    reprocess_queue.accept_rejected()
    eventually(lambda: log.phrases[-1] == "rejected messages are moved again")

    assert meanwhile == ["rejected messages cannot be moved; they wait"]
    assert (reprocess_queue.rejected_count(), log.phrases.count("message rejected")) == (45, 45)


ODD_BODIES = [
    b"",
    INVALID,
    b"\xff\xfe",
    b"[]",
    b"[" * 50_000,
    b"1" * 5000,
    b'\xef\xbb\xbf{"media_ids": []}',
    b'{"__type__": "x", "__value__": 1}',
    b'{"__type__": [], "__value__": 1}',
    b'[{"__type__": "uuid", "__value__": {}}]',
]


def test_kombu_decodes_every_refused_message(reprocess_queue: ReprocessQueue) -> None:
    reprocess_queue.start()

    for body in ODD_BODIES:
        reprocess_queue.broker.push(body)
    with kombu.Connection(reprocess_queue.broker.url) as connection:
        queue = connection.SimpleQueue(kombu.Queue(reprocess_queue.rejected, durable=True))
        messages = [queue.get(timeout=60) for _ in ODD_BODIES]
        decoded = {_bytes(message.body): message.payload for message in messages}
        for message in messages:
            message.ack()

    assert decoded.keys() == set(ODD_BODIES)
    assert (decoded[b"[]"], decoded[INVALID]) == ([], INVALID.decode())


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body


def test_a_message_that_the_database_refuses_is_moved_with_the_reason_and_the_others_are_stored(
    reprocess_queue: ReprocessQueue,
) -> None:
    def refuse(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "refused" in str(parameters):
            raise sa.exc.DataError(statement, {}, ValueError("too long"))

    sa.event.listen(reprocess_queue.store.engine, "before_cursor_execute", refuse)
    try:
        for media_id in ("a", "refused", "b"):
            reprocess_queue.broker.push(b'{"media_ids": ["%s"]}' % media_id.encode())
        reprocess_queue.start()
        eventually(lambda: reprocess_queue.requested() == {"a", "b"} and reprocess_queue.rejected_count() == 1)
    finally:
        sa.event.remove(reprocess_queue.store.engine, "before_cursor_execute", refuse)

    assert reprocess_queue.log.phrases.count("message rejected") == 1
