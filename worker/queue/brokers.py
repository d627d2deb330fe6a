"""What each broker needs so that it neither hangs a process nor loses a wake-up that it accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kombu import Exchange, Queue

#: Wake-ups carry no data: more of them than this in the queue wake nobody who is not awake already.
ENOUGH_WAKE_UPS = 100

_EMBEDDED = "filesystem://localhost"

#: Seconds.
_CONNECT, _ANSWER = 2, 5


def broker_options(url: str | None, folder: Path) -> dict[str, Any]:
    """Celery settings for the broker at `url`; without one, for the embedded broker in `folder`."""
    if url is None:
        return {
            "broker_url": _EMBEDDED,
            "broker_transport": "worker.queue.embedded:Transport",
            "broker_transport_options": _filesystem(folder),
        }
    scheme = url.partition("://")[0]
    if scheme in ("amqp", "amqps", "pyamqp"):
        return {"broker_url": url, "broker_heartbeat": 10, "broker_transport_options": _amqp()}
    return {"broker_url": url, "broker_transport_options": _redis()}


def _filesystem(folder: Path) -> dict[str, Any]:
    messages, control = folder / "messages", folder / "control"
    for each in (messages, control):
        each.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "polling_interval": 0.05,
    }


def _amqp() -> dict[str, Any]:
    # Without confirms a frozen RabbitMQ says OK for a message that is nowhere.
    return {
        "confirm_publish": True,
        "confirm_timeout": _ANSWER,
        "connect_timeout": _CONNECT,
        "read_timeout": _ANSWER,
        "write_timeout": _ANSWER,
        **_PATIENCE,
    }


def _redis() -> dict[str, Any]:
    return {
        "socket_timeout": _ANSWER,
        "socket_connect_timeout": _CONNECT,
        "socket_keepalive": True,
        "visibility_timeout": 60,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        **_PATIENCE,
    }


_PATIENCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


def sync_queue(url: str | None) -> Queue:
    """The queue of wake-ups. Changing a queue's arguments makes RabbitMQ refuse it: choose a new name then."""
    arguments = None
    if url is not None and url.startswith(("amqp", "pyamqp")):
        # A task that kills its worker would otherwise be redelivered for ever.
        arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": 5,
            "x-max-length": ENOUGH_WAKE_UPS * 10,
        }
    return Queue(
        "vodsync.sync", Exchange("vodsync", type="topic", durable=True), "vodsync.sync", durable=True, queue_arguments=arguments
    )
