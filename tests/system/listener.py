"""Somebody who listens to the change feed, as anybody with kombu would."""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kombu

EXCHANGE = kombu.Exchange("vodsync.changes", type="topic", durable=True)


@dataclass(frozen=True)
class Heard:
    """One message: its number, its routing key, and what it says."""

    number: int
    key: str
    body: dict[str, Any]


class Listener:
    """Has a queue of its own from the start; `heard` is everything that came so far, repeats included."""

    def __init__(self, broker_url: str | None, folder: Path, *, key: str = "media.#") -> None:
        self.heard: list[Heard] = []
        self._connection = kombu.Connection(broker_url) if broker_url else embedded(folder / "vodsync-broker")
        name = f"vodsync.test.{secrets.token_hex(6)}"
        self._queue = kombu.Queue(name, EXCHANGE, routing_key=key, durable=True)(self._connection.default_channel)
        self._queue.declare()

    def listen(self) -> list[Heard]:
        """Take what has come meanwhile."""
        while (message := self._queue.get(no_ack=True)) is not None:
            number, key = int(message.properties["message_id"]), message.delivery_info["routing_key"]
            self.heard.append(Heard(number, key, message.decode()))
        return self.heard

    def of_each(self, *, repeats: bool = False) -> dict[str, list[Heard]]:
        """What was heard of each medium; a repeat counts where it came first."""
        found: dict[str, list[Heard]] = defaultdict(list)
        numbers = set()
        for each in self.listen():
            if repeats or each.number not in numbers:
                found[each.body["media_id"]].append(each)
            numbers.add(each.number)
        return found

    def kinds(self) -> dict[str, tuple[str, ...]]:
        return {media_id: tuple(each.body["change"] for each in heard) for media_id, heard in self.of_each().items()}

    def close(self) -> None:
        self._queue.delete()
        self._connection.release()


def embedded(folder: Path) -> kombu.Connection:
    for name in ("messages", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    options = {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.05,
    }
    return kombu.Connection("filesystem://", transport="worker.embedded_broker:Transport", transport_options=options)
