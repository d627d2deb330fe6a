"""What becomes of the messages of other programs when the broker does not take the refused ones."""

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

from tests.builders import Log
from tests.conftest import require
from tests.integration.test_reliable_transport import Broker
from worker import runtime, settings
from worker.background import BackgroundLoop
from worker.core.backoff import Backoff
from worker.store import Store
from worker.store.tables import sync_request

BAD = b"no json"

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class House:
    """An intake that reads `broker`, and a queue for what it refuses that takes nothing until `open`."""

    def __init__(self, broker: Broker, store: Store, module: Any, log: Log) -> None:
        self.broker, self.store, self.log = broker, store, log
        self.rejected = f"{broker.name}.rejected"
        url = str(broker.url)
        self._client = redis.Redis.from_url(url) if url.startswith("redis") else None
        here: Any = SimpleNamespace(
            settings=settings.load(environ={"VODSYNC_BROKER_URL": url}), sources={"default": None}, store=store
        )
        consumer = module.MessageConsumer(here, wake_workers=lambda: None)
        #: How often the consumer tried to move refused messages.
        self.tries = 0
        self._move_rejected = consumer._move_rejected
        consumer._move_rejected = self._count_and_move_rejected
        self._loop = BackgroundLoop("test", consumer.step, failure="failed", interrupt=consumer.stop)
        self.start = self._loop.start

    def shut(self) -> None:
        if self._client:
            self._client.set(self.rejected, "not a list")
        else:
            arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
            self._amqp(lambda channel: channel.queue_declare(self.rejected, durable=True, auto_delete=False, arguments=arguments))

    def open(self) -> None:
        if self._client:
            self._client.delete(self.rejected)
        else:
            self._amqp(lambda channel: channel.queue_delete(self.rejected))

    def _count_and_move_rejected(self, connection: kombu.Connection) -> None:
        self._move_rejected(connection)
        self.tries += 1

    def set_aside(self) -> int:
        if self._client:
            return int(self._client.llen(self.rejected))
        return int(self._amqp(lambda channel: channel.queue_declare(self.rejected, passive=True)).message_count)

    def requested(self) -> set[str]:
        with self.store.reading() as connection:
            return set(connection.execute(sa.select(sync_request.c.media_id)).scalars())

    def close(self) -> None:
        self._loop.stop()
        self._loop.join(timeout=60)
        self.open()

    def _amqp(self, act: Callable[[Any], Any]) -> Any:
        with kombu.Connection(self.broker.url) as connection:
            return act(connection.default_channel)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(params=["redis", "rabbitmq"])
def house(
    request: pytest.FixtureRequest, tmp_path: Path, store: Store, log: Log, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={})))
    from worker.queue.services import reprocess_consumer

    monkeypatch.setattr(reprocess_consumer, "FIRST_MESSAGE_TIMEOUT", 0.05)
    monkeypatch.setattr(reprocess_consumer, "RETRY_PAUSE", Backoff(timedelta(seconds=0.05), timedelta(seconds=0.1)))
    broker = Broker(require(request.param), tmp_path)
    broker.open().release()
    made = House(broker, store, reprocess_consumer, log)
    monkeypatch.setattr(reprocess_consumer, "REPROCESS_QUEUE", broker.queue)
    monkeypatch.setattr(reprocess_consumer, "REJECTED_QUEUE", kombu.Queue(made.rejected, durable=True))
    monkeypatch.setattr(reprocess_consumer, "log", log)
    yield made
    made.close()
    broker.close()


def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_refused_messages_that_cannot_be_set_aside_hold_up_no_others(house: House, log: Log) -> None:
    house.shut()
    house.start()

    for number in range(45):
        house.broker.push(BAD)
        house.broker.push(b'{"media_ids": ["%d"]}' % number)
    eventually(lambda: len(house.requested()) == 45)
    tries = house.tries
    eventually(lambda: house.tries >= tries + 3)
    meanwhile = list(log.phrases)
    house.open()
    eventually(lambda: log.phrases[-1] == "rejected messages are moved again")

    assert meanwhile == ["rejected messages cannot be moved; they wait"]
    assert (house.set_aside(), log.phrases.count("message rejected")) == (45, 45)


ODD = [
    b"",
    BAD,
    b"\xff\xfe",
    b"[]",
    b"[" * 50_000,
    b"1" * 5000,
    b'\xef\xbb\xbf{"media_ids": []}',
    b'{"__type__": "x", "__value__": 1}',
    b'{"__type__": [], "__value__": 1}',
    b'[{"__type__": "uuid", "__value__": {}}]',
]


def test_kombu_decodes_whatever_was_refused(house: House) -> None:
    house.start()

    for body in ODD:
        house.broker.push(body)
    with kombu.Connection(house.broker.url) as connection:
        queue = connection.SimpleQueue(kombu.Queue(house.rejected, durable=True))
        messages = [queue.get(timeout=60) for _ in ODD]
        decoded = {_bytes(message.body): message.payload for message in messages}
        for message in messages:
            message.ack()

    assert decoded.keys() == set(ODD)
    assert (decoded[b"[]"], decoded[BAD]) == ([], BAD.decode())


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body
