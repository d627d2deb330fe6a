"""The embedded broker: order, single delivery, and files that a killed process left half written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Empty

import kombu
import pytest

from worker.embedded_broker import Transport
from worker.queue.brokers import broker_options, sync_queue


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[kombu.Connection]:
    # A process binds a queue only once. Each test behaves like a new process.
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
    """Return the bodies of all waiting messages."""
    queue = connection.SimpleQueue(sync_queue(None))
    received = []
    while True:
        try:
            received.append(queue.get(block=False).payload)
        except Empty:
            return received


def test_messages_are_received_once_and_leave_no_file(connection: kombu.Connection, tmp_path: Path) -> None:
    send(connection, *"abc")

    assert receive(connection) == ["a", "b", "c"]
    assert list((tmp_path / "messages").iterdir()) == []


@pytest.mark.parametrize("half", [b"", b'{"body": "Im'])
def test_a_half_written_message_is_dropped(connection: kombu.Connection, tmp_path: Path, half: bytes) -> None:
    (tmp_path / "messages" / "1_half.vodsync.sync.msg").write_bytes(half)
    send(connection, "whole")

    assert receive(connection) == ["whole"]


@pytest.mark.parametrize("half", [b"", b'[["vodsync.sy'])
def test_a_half_written_exchange_is_rewritten_by_the_next_process(
    connection: kombu.Connection, tmp_path: Path, half: bytes
) -> None:
    (tmp_path / "control" / "vodsync.exchange").write_bytes(half)

    send(connection, "wake up")

    assert receive(connection) == ["wake up"]


def test_messages_are_received_in_the_order_in_which_they_were_sent(connection: kombu.Connection) -> None:
    bodies = [str(number) for number in range(50)]

    send(connection, *bodies)

    assert receive(connection) == bodies


def test_another_program_imports_only_the_transport(tmp_path: Path) -> None:
    code = """
import json, logging, sys
from kombu import Connection
options = {"data_folder_in": "in", "data_folder_out": "in", "control_folder": "control"}
Connection("filesystem://", transport="worker.embedded_broker:Transport", transport_options=options).channel()
ours = [name for name in sys.modules if name.startswith("worker.")]
print(json.dumps([ours, len(logging.root.handlers), "celery" in sys.modules]))
"""
    environment = {**os.environ, "VODSYNC_NO_SETTING_OF_OURS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}

    program = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, timeout=60)

    assert json.loads(program.stdout) == [["worker.embedded_broker"], 0, False]
    assert not (tmp_path / "vodsync-broker").exists()
