"""Receive the change feed with plain kombu, as another program does."""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kombu

EXCHANGE = kombu.Exchange("vodsync.changes", type="topic", durable=True)


@dataclass(frozen=True)
class ChangeMessage:
    """One message: its number, routing key and decoded body."""

    number: int
    key: str
    body: dict[str, Any]


class Listener:
    """Has its own queue from the start. `messages` are all received so far, repeats included."""

    def __init__(self, broker_url: str | None, folder: Path, *, key: str = "media.#") -> None:
        self.messages: list[ChangeMessage] = []
        self._connection = kombu.Connection(broker_url) if broker_url else embedded_broker(folder / "vodsync-broker")
        name = f"vodsync.test.{secrets.token_hex(6)}"
        self._queue = kombu.Queue(name, EXCHANGE, routing_key=key, durable=True)(self._connection.default_channel)
        self._queue.declare()

    def receive(self) -> list[ChangeMessage]:
        """Receive all waiting messages. Returns every message received so far."""
        while (message := self._queue.get(no_ack=True)) is not None:
            number, key = int(message.properties["message_id"]), message.delivery_info["routing_key"]
            self.messages.append(ChangeMessage(number, key, message.decode()))
        return self.messages

    def by_media_id(self) -> dict[str, list[ChangeMessage]]:
        """Return the messages of each asset in order of arrival, without repeats."""
        by_media_id: dict[str, list[ChangeMessage]] = defaultdict(list)
        numbers = set()
        for message in self.receive():
            if message.number not in numbers:
                by_media_id[message.body["media_id"]].append(message)
            numbers.add(message.number)
        return by_media_id

    def changes(self) -> dict[str, tuple[str, ...]]:
        """Return the kinds of change of each asset, in order."""
        return {
            media_id: tuple(str(message.body["change"]) for message in messages)
            for media_id, messages in self.by_media_id().items()
        }

    def close(self) -> None:
        self._queue.delete()
        self._connection.release()


def embedded_broker(folder: Path) -> kombu.Connection:
    for name in ("messages", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    options = {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.05,
    }
    return kombu.Connection("filesystem://", transport="worker.embedded_broker:Transport", transport_options=options)
