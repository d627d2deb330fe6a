"""What each broker needs so that it neither hangs a process nor loses a wake-up that it accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kombu import Connection, Exchange, Queue

from worker.core.errors import BrokerMismatchError

#: Wake-ups carry no data: more of them than this in the queue wake nobody who is not awake already.
ENOUGH_WAKE_UPS = 100

#: Where any program asks for media, and where its message goes when it cannot be read.
REPROCESS, REJECTED = "vodsync.reprocess", "vodsync.reprocess.rejected"

_EMBEDDED = "filesystem://localhost"

#: Seconds.
CONNECT, ANSWER, _HEARTBEAT = 2, 5, 10


def broker_options(url: str | None, folder: Path) -> dict[str, Any]:
    """Celery settings for the broker at `url`; without one, for the embedded broker in `folder`."""
    if url is None:
        return {
            "broker_url": _EMBEDDED,
            "broker_transport": "worker.embedded_broker:Transport",
            "broker_transport_options": _filesystem(folder),
        }
    if _is_rabbitmq(url):
        return {"broker_url": url, "broker_heartbeat": _HEARTBEAT, "broker_transport_options": _amqp()}
    return {"broker_url": url, "broker_transport_options": _redis()}


def _filesystem(folder: Path) -> dict[str, Any]:
    messages, control, taken = folder / "messages", folder / "control", folder / "taken"
    for each in (messages, control, taken):
        each.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "taken_folder": str(taken),
        "polling_interval": 0.05,
        # Celery waits for two seconds, and cannot be stopped meanwhile.
        "longest_wait": 0.25,
    }


def _amqp() -> dict[str, Any]:
    # Without confirms a frozen RabbitMQ says OK for a message that is nowhere.
    return {
        "confirm_publish": True,
        "confirm_timeout": ANSWER,
        "connect_timeout": CONNECT,
        "read_timeout": ANSWER,
        "write_timeout": ANSWER,
        **_PATIENCE,
    }


def _redis() -> dict[str, Any]:
    return {
        "socket_timeout": ANSWER,
        "socket_connect_timeout": CONNECT,
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
    if _is_rabbitmq(url):
        # A task that kills its worker would otherwise be redelivered for ever.
        arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": 5,
            "x-max-length": ENOUGH_WAKE_UPS * 10,
        }
    return Queue(
        "vodsync.sync", Exchange("vodsync", type="topic", durable=True), "vodsync.sync", durable=True, queue_arguments=arguments
    )


#: For messages of other programs, and for those that were refused; both are reached by their names alone. They are plain durable
#: queues, so that a program which declares one as most do (kombu's SimpleQueue among them) means the same one.
REPROCESS_QUEUE, REJECTED_QUEUE = Queue(REPROCESS, durable=True), Queue(REJECTED, durable=True)


def declare(connection: Connection, queue: Queue) -> None:
    """Use `queue` as it is; make it where it is not there. RabbitMQ refuses to declare one again with other arguments."""
    try:
        with connection.channel() as channel:
            queue(channel).queue_declare(passive=True)
    except connection.channel_errors:
        with connection.channel() as channel:
            queue(channel).declare()


def declare_exchange(connection: Connection, exchange: Exchange) -> None:
    """Use `exchange` as it is, if it is of this type; make it where it is not there. Raises BrokerRefused."""
    try:
        with connection.channel() as channel:
            exchange(channel).declare()
    except connection.channel_errors as error:
        # RabbitMQ compares the type before anything else, and tells it in no other way.
        if "inequivalent arg 'type'" in str(error):
            raise BrokerMismatchError(
                f"the exchange {exchange.name} was declared by another program, and not as {exchange.type};"
                " delete it, and it is made anew"
            ) from None
        with connection.channel() as channel:
            exchange(channel).declare(passive=True)


def keeping_connection(url: str | None, folder: Path) -> Connection:
    """To the broker at `url`, or the one in `folder`. What is taken through it and not acknowledged comes back, come what may."""
    options = broker_options(url, folder)
    transport_options = options["broker_transport_options"]
    if url is None:
        # Nobody waits for these as for a wake-up, and each look reads the folder.
        transport_options |= {"polling_interval": 0.2}
    connection = Connection(
        options["broker_url"], transport_options=transport_options, connect_timeout=CONNECT, heartbeat=_HEARTBEAT
    )
    if not _is_rabbitmq(url):
        # Named now, so that kombu reads the URL as that of its own transport.
        connection.transport_cls = f"worker.queue.{'reliable_filesystem' if url is None else 'reliable_redis'}:Transport"
    return connection


def _is_rabbitmq(url: str | None) -> bool:
    return url is not None and url.startswith(("amqp", "pyamqp"))
