"""A queue on one of the three brokers, with producers that use kombu and that do not, and a consumer that does not acknowledge."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import amqp
import kombu
import redis

from worker.queue.brokers import broker_options, declare, reliable_connection

REQUEST = b'{"media_ids": ["a"]}'


class Broker:
    """One of the three brokers, with a queue that no other test uses."""

    def __init__(self, url: str | None, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.name = f"vodsync.test.{secrets.token_hex(6)}"
        self.queue = kombu.Queue(self.name, durable=True)

    def push(self, body: bytes = REQUEST) -> None:
        """Send a message as a program without kombu does."""
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
        """Send a message with kombu's own transport."""
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


class Consumer:
    """Receives messages without acknowledging them."""

    def __init__(self, broker: Broker) -> None:
        self.messages: list[Any] = []
        self.connection = broker.open()
        self._consumer = self.connection.Consumer([broker.queue], auto_declare=False, on_message=self.messages.append)
        self._consumer.consume()

    def receive(self, *, within: float = 0.5) -> list[bytes]:
        """Return the bodies of all received messages once no more arrive `within` seconds."""
        try:
            while True:
                self.connection.drain_events(timeout=within)
        except TimeoutError:
            return [message.body.encode() if isinstance(message.body, str) else message.body for message in self.messages]

    def close(self) -> None:
        self.connection.release()
