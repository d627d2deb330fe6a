"""Base classes for kombu transports that keep a message until it is acknowledged, even if the consumer is killed.

kombu's own transports for Redis and for folders remove a message first and record the delivery afterwards. A consumer that is
killed in between loses the message. These transports claim a message in one step, keep it until it is acknowledged, and requeue it
if the consumer dies.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from queue import Empty
from time import monotonic
from typing import Any

import msgspec
from kombu.transport import virtual

#: How often claims are renewed, and messages of dead consumers are requeued.
MAINTENANCE_INTERVAL = 2.0  # seconds


class QoS(virtual.QoS):  # type: ignore[misc]  # kombu has no types
    """The delivered messages that are not acknowledged yet, by delivery tag. The channel stores their content."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        # kombu would requeue messages when the process exits, and wait for a broker that may be down. Other processes do it for us.
        self._on_collect.cancel()

    @property
    def unacknowledged(self) -> list[str]:
        return [tag for tag in self._delivered if tag not in self._dirty]

    def ack(self, delivery_tag: str) -> None:
        self.channel.delete_claimed(delivery_tag)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self.channel.requeue_claimed(delivery_tag)
        else:
            self.channel.delete_claimed(delivery_tag)
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        for tag in self.unacknowledged:
            self.channel.requeue_claimed(tag)
        self._delivered.clear()
        return []


class ReliableChannel(ABC):
    """Mixin for a subclass of one of kombu's virtual channels; must precede it in the list of base classes."""

    QoS = QoS

    qos: Any
    _maintained_at = 0.0

    def drain_events(self, **options: Any) -> Any:
        if monotonic() - self._maintained_at > MAINTENANCE_INTERVAL:
            self._maintained_at = monotonic()
            self.maintain_claims(self.qos.unacknowledged)
        return super().drain_events(**options)  # type: ignore[misc]  # a method of kombu's channel

    def _get(self, queue: str) -> dict[str, Any]:
        claimed = self.claim(queue)
        if claimed is None:
            raise Empty
        return payload(*claimed)

    @abstractmethod
    def claim(self, queue: str) -> tuple[str, bytes] | None:
        """Claim the next message. Return its delivery tag and content, or None if the queue is empty."""

    @abstractmethod
    def delete_claimed(self, tag: str) -> None:
        """Delete a claimed message, because it was acknowledged."""

    @abstractmethod
    def requeue_claimed(self, tag: str) -> None:
        """Make a claimed message the first of its queue again."""

    @abstractmethod
    def maintain_claims(self, tags: list[str]) -> None:
        """Renew the claims of `tags`, and requeue the messages of dead consumers."""


class _Properties(msgspec.Struct):
    body_encoding: str | None = None


class _Envelope(msgspec.Struct):
    """The format in which kombu stores a message."""

    body: str
    properties: _Properties
    headers: dict[str, Any] | None = None


def payload(tag: str, raw: bytes) -> dict[str, Any]:
    """Return what kombu builds a message from. `raw` is kombu's own envelope, or a plain body that another program pushed."""
    headers: dict[str, Any] = {}
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        is_base64 = envelope.properties.body_encoding == "base64"
        body = base64.b64decode(envelope.body, validate=True) if is_base64 else envelope.body.encode()
        headers = {name: value for name, value in (envelope.headers or {}).items() if name == "compression"}
    except (ValueError, RecursionError):
        body = raw
    return {"body": body, "headers": headers, "properties": {"delivery_tag": tag, "delivery_info": {}}}
