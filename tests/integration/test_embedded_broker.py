"""Does the embedded broker survive what is killed while it writes?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Empty

import kombu
import pytest

from worker.queue.brokers import broker_options, sync_queue
from worker.queue.embedded import Transport


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[kombu.Connection]:
    # What one process has bound it does not bind again; each test is to be a process of its own.
    Transport.global_state.clear()
    options = broker_options(None, tmp_path)
    with kombu.Connection(
        options["broker_url"], transport=options["broker_transport"], transport_options=options["broker_transport_options"]
    ) as opened:
        yield opened


def send(connection: kombu.Connection, *bodies: str) -> None:
    queue = sync_queue(None)
    producer = connection.Producer(serializer="json")
    for body in bodies:
        producer.publish(body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue])


def receive(connection: kombu.Connection) -> list[str]:
    """The bodies of everything that waits."""
    queue = connection.SimpleQueue(sync_queue(None))
    received = []
    while True:
        try:
            received.append(queue.get(block=False).payload)
        except Empty:
            return received


def test_messages_come_out_once_and_leave_no_file(connection: kombu.Connection, tmp_path: Path) -> None:
    send(connection, *"abc")

    assert sorted(receive(connection)) == ["a", "b", "c"]
    assert list((tmp_path / "messages").iterdir()) == []


@pytest.mark.parametrize("half", [b"", b'{"body": "Im'])
def test_half_a_message_is_dropped(connection: kombu.Connection, tmp_path: Path, half: bytes) -> None:
    (tmp_path / "messages" / "1_half.vodsync.sync.msg").write_bytes(half)
    send(connection, "whole")

    assert receive(connection) == ["whole"]


@pytest.mark.parametrize("half", [b"", b'[["vodsync.sy'])
def test_half_an_exchange_is_made_whole_by_whoever_starts_next(connection: kombu.Connection, tmp_path: Path, half: bytes) -> None:
    (tmp_path / "control" / "vodsync.exchange").write_bytes(half)

    send(connection, "wake up")

    assert receive(connection) == ["wake up"]
