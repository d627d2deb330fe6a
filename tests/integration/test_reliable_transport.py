"""Unacknowledged messages are delivered again when their consumer dies, on each broker and from each kind of producer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from tests.broker_harness import REQUEST, Broker, Consumer
from tests.conftest import require
from worker.core.errors import BrokerMismatchError
from worker.queue import reliable_filesystem, reliable_redis, reliable_transport
from worker.queue.brokers import declare_exchange
from worker.queue.reliable_transport import payload


@pytest.fixture(params=["embedded", "redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    opened = Broker(None if request.param == "embedded" else require(request.param), tmp_path)
    opened.open().release()
    yield opened
    opened.close()


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unacknowledged messages of a dead process are returned within seconds."""
    monkeypatch.setattr(reliable_transport, "MAINTENANCE_INTERVAL", 0.2)
    monkeypatch.setattr(reliable_redis, "LEASE", 2)


def test_a_message_of_any_producer_arrives_once(broker: Broker) -> None:
    broker.push()
    broker.publish()
    broker.publish(priority=9)
    broker.publish(compression="zlib")

    consumer = Consumer(broker)
    received = consumer.receive()
    for message in consumer.messages:
        message.ack()
    consumer.close()

    assert received == [REQUEST] * 4
    assert Consumer(broker).receive() == []


def test_unacknowledged_messages_are_delivered_again_when_their_consumer_closes(broker: Broker) -> None:
    for body in (b"1", b"2", b"3"):
        broker.push(body)

    first = Consumer(broker)
    received = first.receive()
    first.messages[1].ack()
    first.close()

    left = sorted(set(received) - {received[1]})
    assert sorted(received) == [b"1", b"2", b"3"]
    assert sorted(Consumer(broker).receive()) == left


@pytest.mark.usefixtures("short_timeouts")
def test_unacknowledged_messages_of_a_killed_process_are_delivered_again(broker: Broker) -> None:
    for body in (b"1", b"2"):
        broker.push(body)
    code = f"""
import os, pathlib, signal, sys
from tests.broker_harness import Broker, Consumer
broker = Broker({broker.url!r}, pathlib.Path({str(broker.folder)!r}))
broker.queue.name = broker.name = {broker.name!r}
consumer = Consumer(broker)
consumer.receive()
consumer.messages[0].ack()
print(len(consumer.messages), flush=True)
consumer.receive(within=0.2)
os.kill(os.getpid(), signal.SIGKILL)
"""

    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, timeout=60)
    consumer = Consumer(broker)
    for _ in range(30):
        if consumer.receive(within=0.2):
            break

    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, b"2\n")
    assert len(consumer.receive()) == 1


@pytest.mark.usefixtures("short_timeouts")
def test_messages_of_a_running_consumer_are_not_delivered_to_another(broker: Broker) -> None:
    broker.push()
    first, second = Consumer(broker), Consumer(broker)
    received = first.receive()

    for _ in range(10):
        first.receive(within=0.2)
        second.receive(within=0.2)

    assert received == [REQUEST]
    assert first.receive() == [REQUEST]
    assert second.receive() == []
    first.close()
    second.close()


ODD_BODIES = [
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
def test_no_message_stops_its_consumer(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliable_filesystem, "WRITE_TIMEOUT", 0)
    for body in ODD_BODIES:
        broker.push(body)
    received: list[Any] = []

    connection = broker.open()
    with connection.Consumer(
        [broker.queue], auto_declare=False, on_message=received.append, on_decode_error=lambda message, _: received.append(message)
    ):
        try:
            while True:
                connection.drain_events(timeout=0.5)
        except TimeoutError:
            for message in received:
                message.ack()
    connection.release()

    assert len(received) == len(ODD_BODIES)


def test_a_body_without_an_envelope_is_the_message() -> None:
    for body in (REQUEST, b"", b"\xff", b'{"body": 1}', b'{"body": "!", "properties": {"body_encoding": "base64"}}'):
        assert payload("tag", body)["body"] == body


def test_the_envelope_of_kombu_is_decoded() -> None:
    sent = {"body": "eyJhIjogMX0=", "properties": {"body_encoding": "base64", "delivery_tag": "theirs"}, "headers": {"lang": "py"}}

    decoded = payload("tag", json.dumps(sent).encode())

    assert decoded["body"] == b'{"a": 1}'
    assert decoded["properties"]["delivery_tag"] == "tag"


# RabbitMQ


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
@pytest.mark.parametrize("arguments", [None, {"x-max-length": 10}, {"x-queue-type": "quorum"}])
def test_a_queue_that_another_program_declared_differently_is_used(broker: Broker, arguments: dict[str, Any] | None) -> None:
    with broker.open() as connection:
        connection.default_channel.queue_delete(broker.name)
        connection.default_channel.queue_declare(broker.name, durable=True, auto_delete=False, arguments=arguments)

    broker.push()
    consumer = Consumer(broker)

    assert consumer.receive() == [REQUEST]
    consumer.close()


@pytest.fixture
def exchange(broker: Broker) -> Iterator[kombu.Exchange]:
    yield kombu.Exchange(broker.name, type="topic", durable=True)
    with broker.open() as connection:
        connection.default_channel.exchange_delete(broker.name)


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
@pytest.mark.parametrize("other", [{}, {"durable": False}, {"auto_delete": True}, {"arguments": {"x": 1}}])
def test_an_exchange_that_another_program_declared_differently_is_used(
    broker: Broker, exchange: kombu.Exchange, other: dict[str, Any]
) -> None:
    with broker.open() as connection:
        settings = {"type": "topic", "durable": True, "auto_delete": False} | other
        connection.default_channel.exchange_declare(broker.name, **settings)

        declare_exchange(connection, exchange)


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_an_exchange_of_another_type_is_refused_with_an_explanation(broker: Broker, exchange: kombu.Exchange) -> None:
    with broker.open() as connection:
        connection.default_channel.exchange_declare(broker.name, type="direct", durable=False)

        with pytest.raises(
            BrokerMismatchError, match=f"the exchange {broker.name} was declared by another program, and not as topic"
        ):
            declare_exchange(connection, exchange)


def test_a_missing_exchange_is_declared(broker: Broker, exchange: kombu.Exchange) -> None:
    with broker.open() as connection:
        declare_exchange(connection, exchange)

        exchange(connection.default_channel).declare(passive=True)


# The folder


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_file_is_not_received_before_it_is_complete(broker: Broker) -> None:
    consumer = Consumer(broker)
    path = broker.folder / "messages" / f"slow.{broker.name}.msg"

    path.write_bytes(b"")
    empty = consumer.receive()
    path.write_bytes(REQUEST[:9])
    half = consumer.receive()
    path.write_bytes(REQUEST)

    assert (empty, half) == ([], [])
    assert consumer.receive() == [REQUEST]


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_file_that_stays_incomplete_is_received(broker: Broker) -> None:
    path = broker.folder / "messages" / f"half.{broker.name}.msg"
    path.write_bytes(REQUEST[:9])
    os.utime(path, (time.time() - 10, time.time() - 10))

    assert Consumer(broker).receive() == [REQUEST[:9]]


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_closed_consumer_leaves_no_folder(broker: Broker) -> None:
    broker.push()
    consumer = Consumer(broker)
    consumer.receive()
    folders = list((broker.folder / "taken").iterdir())

    consumer.close()

    assert len(folders) == 1
    assert list((broker.folder / "taken").iterdir()) == []


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_file_that_cannot_be_taken_does_not_block_the_others(broker: Broker) -> None:
    (broker.folder / "messages" / f"0.{broker.name}.msg").mkdir()
    broker.push()

    assert Consumer(broker).receive() == [REQUEST]
