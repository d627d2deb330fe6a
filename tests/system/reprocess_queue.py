"""The queue `vodsync.reprocess` as another program uses it, and a worker that consumes it."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amqp
import kombu
import redis

from tests.system.fault_harness import FaultHarness
from tests.system.installation import Installation
from tests.system.processes import Process, eventually

REPROCESS = "vodsync.reprocess"
REJECTED = "vodsync.reprocess.rejected"

README = Path(__file__).parents[2] / "README.md"
README_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
README_BROKER = "amqp://guest:guest@localhost:5672//"

#: A text of the transaction that creates sync requests. A claim updates them and does not contain it.
REQUEST = "INSERT INTO vod_sync_request"

#: Returns the ids of assets that VOD has and that were not requested yet.
Library = Callable[[int], list[str]]


class Queues:
    """The broker as another program uses it: without vodsync and, if possible, without kombu."""

    def __init__(self, installation: Installation) -> None:
        self.url = installation.settings.get("VODSYNC_BROKER_URL")
        self.folder = installation.folder / "vodsync-broker"
        messages = str(self.folder / "messages")
        self.filesystem_options = {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": str(self.folder / "control"),
            "polling_interval": 0.05,
        }

    @property
    def kind(self) -> str:
        return "embedded" if self.url is None else self.url.partition("://")[0]

    def forget(self) -> None:
        """Delete the queues, as before the first start of a worker."""
        if self.url is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            for name in ("messages", "control"):
                (self.folder / name).mkdir(parents=True)
        elif self.kind == "redis":
            with redis.Redis.from_url(self.url) as client:
                client.flushdb()
        else:
            with self.connect() as connection:
                for queue in (REPROCESS, REJECTED):
                    connection.default_channel.queue_delete(queue)

    def connect(self) -> kombu.Connection:
        return (
            kombu.Connection(self.url) if self.url else kombu.Connection("filesystem://", transport_options=self.filesystem_options)
        )

    def push(self, message: bytes | dict[str, Any]) -> None:
        """Send only the text, without properties."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        if self.url is None:
            draft = self.folder / f"{secrets.token_hex(6)}.draft"
            draft.write_bytes(body)
            draft.rename(self.folder / "messages" / f"{draft.stem}.{REPROCESS}.msg")
        elif self.kind == "redis":
            with redis.Redis.from_url(self.url) as client:
                client.lpush(REPROCESS, body)
        else:
            self.push_with_properties(body)

    def push_with_properties(self, body: bytes, **properties: Any) -> None:
        with self.connect() as connection:
            connection.default_channel.basic_publish_confirm(
                amqp.Message(body, **properties), routing_key=REPROCESS, mandatory=True, timeout=30
            )

    def publish(self, message: Any, **options: Any) -> None:
        with self.connect() as connection:
            connection.Producer().publish(message, routing_key=REPROCESS, **options)

    def rejected(self, count: int) -> list[tuple[bytes, str]]:
        """Return body and reason of the next `count` rejected messages."""
        with self.connect() as connection:
            queue = connection.SimpleQueue(kombu.Queue(REJECTED, no_declare=True))
            messages = [queue.get(timeout=80) for _ in range(count)]
            for message in messages:
                message.ack()
            return [(_bytes(message.body), message.headers["reason"]) for message in messages]


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body


def start_consumer(harness: FaultHarness, fault: str | None = None) -> Process:
    """Start a worker and wait until it has declared its queue."""
    worker = harness.start_worker(fault)
    eventually(lambda: "worker started" in worker.log, within=20, missing=lambda: worker.log)
    wait_for_queue(harness)
    return worker


def wait_for_queue(harness: FaultHarness) -> None:
    """Wait until a worker has declared its queue at RabbitMQ."""
    queues = Queues(harness.installation)
    if queues.kind == "amqp":
        eventually(
            lambda: _is_declared(queues), within=20, missing=lambda: f"the queue; logs:\n{harness.installation.logs()[-3000:]}"
        )


def _is_declared(queues: Queues) -> bool:
    with queues.connect() as connection:
        try:
            connection.default_channel.queue_declare(REPROCESS, passive=True)
        except amqp.NotFound:
            return False
        return True


def wait_for(harness: FaultHarness, media_ids: list[str], *, within: float = 30) -> None:
    """Wait until these assets are stored and no request is due."""
    bodies = [{"VideoId": media_id} for media_id in media_ids]
    eventually(
        lambda: harness.stored(*bodies),
        within=within,
        missing=lambda: f"rows; logs:\n{harness.installation.logs()[-6000:]}",
        pause=0.2,
    )
