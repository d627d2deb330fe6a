"""Does a message that was taken come back when its taker dies, whatever the broker and whoever pushed it?"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import kombu
import pytest
import redis

from tests.conftest import require
from worker.core.errors import BrokerMismatchError
from worker.queue import reliable_filesystem, reliable_redis, reliable_transport
from worker.queue.brokers import broker_options, declare, declare_exchange, reliable_connection
from worker.queue.reliable_transport import payload

ASKED = b'{"media_ids": ["a"]}'


class Broker:
    """One of the three, with a queue that nobody else uses."""

    def __init__(self, url: str | None, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.name = f"vodsync.test.{secrets.token_hex(6)}"
        self.queue = kombu.Queue(self.name, durable=True)

    def push(self, body: bytes = ASKED) -> None:
        """As a program would that has never heard of kombu."""
        if self.url is None:
            draft = self.folder / "draft"
            draft.write_bytes(body)
            draft.rename(self.folder / "messages" / f"{secrets.token_hex(6)}.{self.name}.msg")
        elif self.url.startswith("redis"):
            with redis.Redis.from_url(self.url) as client:
                client.lpush(self.name, body)
        else:
            with self.open() as connection:
                connection.default_channel.basic_publish(amqp.Message(body), routing_key=self.name)

    def open(self) -> kombu.Connection:
        connection = reliable_connection(self.url, self.folder)
        declare(connection, self.queue)
        return connection

    def publish(self, **options: Any) -> None:
        """As kombu does, without our channels."""
        settings = broker_options(self.url, self.folder)
        with kombu.Connection(settings["broker_url"], transport_options=settings["broker_transport_options"]) as connection:
            connection.Producer().publish({"media_ids": ["a"]}, routing_key=self.name, **options)

    def close(self) -> None:
        if self.url is not None and self.url.startswith("redis"):
            with redis.Redis.from_url(self.url) as client:
                for key in client.keys(f"{self.name}*"):
                    client.delete(key)
        elif self.url is not None:
            with self.open() as connection:
                connection.default_channel.queue_delete(self.name)


class Taker:
    """Takes what there is and says nothing more about it."""

    def __init__(self, broker: Broker) -> None:
        self.messages: list[Any] = []
        self.connection = broker.open()
        self._consumer = self.connection.Consumer([broker.queue], auto_declare=False, on_message=self.messages.append)
        self._consumer.consume()

    def take(self, *, within: float = 0.5) -> list[bytes]:
        """The bodies of all that it holds, once nothing more came for so long."""
        try:
            while True:
                self.connection.drain_events(timeout=within)
        except TimeoutError:
            return [message.body.encode() if isinstance(message.body, str) else message.body for message in self.messages]

    def close(self) -> None:
        self.connection.release()


@pytest.fixture(params=["embedded", "redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    made = Broker(None if request.param == "embedded" else require(request.param), tmp_path)
    made.open().release()
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given back after seconds is given back at once."""
    monkeypatch.setattr(reliable_transport, "MAINTENANCE_INTERVAL", 0.2)
    monkeypatch.setattr(reliable_redis, "LEASE", 2)


def test_whoever_pushes_it_a_message_arrives_once(broker: Broker) -> None:
    broker.push()
    broker.publish()
    broker.publish(priority=9)
    broker.publish(compression="zlib")

    taker = Taker(broker)
    taken = taker.take()
    for message in taker.messages:
        message.ack()
    taker.close()

    assert taken == [ASKED] * 4
    assert Taker(broker).take() == []


def test_what_was_not_acknowledged_comes_back_when_its_taker_closes(broker: Broker) -> None:
    for body in (b"1", b"2", b"3"):
        broker.push(body)

    first = Taker(broker)
    taken = first.take()
    first.messages[1].ack()
    first.close()

    left = sorted(set(taken) - {taken[1]})
    assert sorted(taken) == [b"1", b"2", b"3"]
    assert sorted(Taker(broker).take()) == left


@pytest.mark.usefixtures("impatient")
def test_what_a_killed_process_held_comes_back(broker: Broker) -> None:
    for body in (b"1", b"2"):
        broker.push(body)
    code = f"""
import os, pathlib, signal, sys
from tests.integration.test_reliable_transport import Broker, Taker
broker = Broker({broker.url!r}, pathlib.Path({str(broker.folder)!r}))
broker.queue.name = broker.name = {broker.name!r}
taker = Taker(broker)
taker.take()
taker.messages[0].ack()
print(len(taker.messages), flush=True)
taker.take(within=0.2)
os.kill(os.getpid(), signal.SIGKILL)
"""

    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, timeout=60)
    taker = Taker(broker)
    for _ in range(30):
        if taker.take(within=0.2):
            break

    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, b"2\n")
    assert len(taker.take()) == 1


@pytest.mark.usefixtures("impatient")
def test_what_a_living_process_holds_is_left_to_it(broker: Broker) -> None:
    broker.push()
    first, second = Taker(broker), Taker(broker)
    taken = first.take()

    for _ in range(10):
        first.take(within=0.2)
        second.take(within=0.2)

    assert taken == [ASKED]
    assert first.take() == [ASKED]
    assert second.take() == []
    first.close()
    second.close()


ODD = [
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b"1" * 5000,
    b"[" * 50_000,
    b'{"body": "!!", "properties": {"body_encoding": "base64"}}',
    b'{"body": 1, "properties": {}}',
    b'{"body": "", "properties": null}',
    b'{"body": "x", "properties": {"body_encoding": "rot13"}}',
    b'{"body": "x", "properties": {"delivery_tag": null}, "headers": {"compression": "none such"}}',
]


@pytest.mark.parametrize("broker", ["embedded", "redis"], indirect=True)
def test_no_message_breaks_the_one_who_takes_it(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliable_filesystem, "WRITE_TIMEOUT", 0)
    for body in ODD:
        broker.push(body)
    taken: list[Any] = []

    connection = broker.open()
    with connection.Consumer(
        [broker.queue], auto_declare=False, on_message=taken.append, on_decode_error=lambda message, _: taken.append(message)
    ):
        try:
            while True:
                connection.drain_events(timeout=0.5)
        except TimeoutError:
            for message in taken:
                message.ack()
    connection.release()

    assert len(taken) == len(ODD)


def test_what_is_no_envelope_is_the_message_itself() -> None:
    for body in (ASKED, b"", b"\xff", b'{"body": 1}', b'{"body": "!", "properties": {"body_encoding": "base64"}}'):
        assert payload("tag", body)["body"] == body


def test_kombus_envelope_is_opened() -> None:
    sent = {"body": "eyJhIjogMX0=", "properties": {"body_encoding": "base64", "delivery_tag": "theirs"}, "headers": {"lang": "py"}}

    opened = payload("tag", json.dumps(sent).encode())

    assert opened["body"] == b'{"a": 1}'
    assert opened["properties"]["delivery_tag"] == "tag"


# RabbitMQ


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
@pytest.mark.parametrize("arguments", [None, {"x-max-length": 10}, {"x-queue-type": "quorum"}])
def test_a_queue_that_somebody_declared_otherwise_is_used_as_it_is(broker: Broker, arguments: dict[str, Any] | None) -> None:
    with broker.open() as connection:
        connection.default_channel.queue_delete(broker.name)
        connection.default_channel.queue_declare(broker.name, durable=True, auto_delete=False, arguments=arguments)

    broker.push()
    taker = Taker(broker)

    assert taker.take() == [ASKED]
    taker.close()


@pytest.fixture
def exchange(broker: Broker) -> Iterator[kombu.Exchange]:
    yield kombu.Exchange(broker.name, type="topic", durable=True)
    with broker.open() as connection:
        connection.default_channel.exchange_delete(broker.name)


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
@pytest.mark.parametrize("other", [{}, {"durable": False}, {"auto_delete": True}, {"arguments": {"x": 1}}])
def test_an_exchange_that_somebody_declared_otherwise_is_used_as_it_is(
    broker: Broker, exchange: kombu.Exchange, other: dict[str, Any]
) -> None:
    with broker.open() as connection:
        how = {"type": "topic", "durable": True, "auto_delete": False} | other
        connection.default_channel.exchange_declare(broker.name, **how)

        declare_exchange(connection, exchange)


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_an_exchange_of_another_type_is_refused_in_a_sentence(broker: Broker, exchange: kombu.Exchange) -> None:
    with broker.open() as connection:
        connection.default_channel.exchange_declare(broker.name, type="direct", durable=False)

        with pytest.raises(
            BrokerMismatchError, match=f"the exchange {broker.name} was declared by another program, and not as topic"
        ):
            declare_exchange(connection, exchange)


def test_an_exchange_that_is_not_there_is_made(broker: Broker, exchange: kombu.Exchange) -> None:
    with broker.open() as connection:
        declare_exchange(connection, exchange)

        exchange(connection.default_channel).declare(passive=True)


# The folder


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_file_that_is_still_being_written_is_left_until_it_is_whole(broker: Broker) -> None:
    taker = Taker(broker)
    path = broker.folder / "messages" / f"slow.{broker.name}.msg"

    path.write_bytes(b"")
    empty = taker.take()
    path.write_bytes(ASKED[:9])
    half = taker.take()
    path.write_bytes(ASKED)

    assert (empty, half) == ([], [])
    assert taker.take() == [ASKED]


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_file_that_never_becomes_whole_is_a_message_too(broker: Broker) -> None:
    path = broker.folder / "messages" / f"half.{broker.name}.msg"
    path.write_bytes(ASKED[:9])
    os.utime(path, (time.time() - 10, time.time() - 10))

    assert Taker(broker).take() == [ASKED[:9]]


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_nothing_is_left_of_those_who_are_gone(broker: Broker) -> None:
    broker.push()
    taker = Taker(broker)
    taker.take()
    held = list((broker.folder / "taken").iterdir())

    taker.close()

    assert len(held) == 1
    assert list((broker.folder / "taken").iterdir()) == []


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_what_cannot_be_taken_is_in_nobodys_way(broker: Broker) -> None:
    (broker.folder / "messages" / f"0.{broker.name}.msg").mkdir()
    broker.push()

    assert Taker(broker).take() == [ASKED]
