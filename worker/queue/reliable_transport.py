"""Messages that outlive whoever took them: taken in one step, kept until acknowledged, given back when their taker dies.

kombu's own transports for Redis and for folders take a message first and write down afterwards that it was taken. A process that is
killed in between has lost it.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from queue import Empty
from time import monotonic
from typing import Any

import msgspec
from kombu.transport import virtual

#: Seconds between two looks for messages whose taker died.
TEND = 2.0


class QoS(virtual.QoS):  # type: ignore[misc]
    """What was delivered and is not acknowledged yet, by tag; where it is kept meanwhile is the channel's business."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        # What a process still holds at its end comes back without its help; it would wait for a broker that may be away.
        self._on_collect.cancel()

    @property
    def held(self) -> list[str]:
        return [tag for tag in self._delivered if tag not in self._dirty]

    def ack(self, delivery_tag: str) -> None:
        self.channel.forget(delivery_tag)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self.channel.give_back(delivery_tag)
        else:
            self.channel.forget(delivery_tag)
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        for tag in self.held:
            self.channel.give_back(tag)
        self._delivered.clear()
        return []


class ReliableChannel(ABC):
    """Stands before one of kombu's virtual channels among the bases of a channel that has the last four methods."""

    QoS = QoS

    qos: Any
    _tended_at = 0.0

    def drain_events(self, **options: Any) -> Any:
        if monotonic() - self._tended_at > TEND:
            self._tended_at = monotonic()
            self.tend(self.qos.held)
        return super().drain_events(**options)  # type: ignore[misc]

    def _get(self, queue: str) -> dict[str, Any]:
        taken = self.take(queue)
        if taken is None:
            raise Empty
        return payload(*taken)

    @abstractmethod
    def take(self, queue: str) -> tuple[str, bytes] | None:
        """Tag and content of the next message, which is kept under that tag from the same moment on."""

    @abstractmethod
    def forget(self, tag: str) -> None:
        """It is done with."""

    @abstractmethod
    def give_back(self, tag: str) -> None:
        """The next to look finds it first."""

    @abstractmethod
    def tend(self, held: list[str]) -> None:
        """Say that the messages of these tags are still being worked on, and give back those of whoever died."""


class _Properties(msgspec.Struct):
    body_encoding: str | None = None


class _Envelope(msgspec.Struct):
    """In which kombu sends."""

    body: str
    properties: _Properties
    headers: dict[str, Any] | None = None


def payload(tag: str, raw: bytes) -> dict[str, Any]:
    """Of what kombu makes a message: from its own envelope, or from what another program pushed without one."""
    headers: dict[str, Any] = {}
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        encoded = envelope.properties.body_encoding == "base64"
        body = base64.b64decode(envelope.body, validate=True) if encoded else envelope.body.encode()
        headers = {name: value for name, value in (envelope.headers or {}).items() if name == "compression"}
    except (ValueError, RecursionError):
        body = raw
    return {"body": body, "headers": headers, "properties": {"delivery_tag": tag, "delivery_info": {}}}
