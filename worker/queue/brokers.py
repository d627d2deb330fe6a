"""Configure RabbitMQ, Redis and the embedded broker so that they neither block a process nor lose an accepted message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kombu import Connection, Exchange, Queue

from worker.core.errors import BrokerMismatchError
from worker.folders import prepare_broker_folder

#: No further wake-ups are sent while this number is waiting: each wakes a worker, and carries no data.
MAX_WAKEUPS = 100

#: Queue on which any program can request assets, and the queue for messages on it that are invalid.
REPROCESS = "vodsync.reprocess"
REJECTED = "vodsync.reprocess.rejected"

CONNECT_TIMEOUT = 2  # seconds
RESPONSE_TIMEOUT = 5  # seconds
AMQP_HEARTBEAT = 10  # seconds

_EMBEDDED_URL = "filesystem://localhost"

#: kombu's own retries, which the caller waits for: one, almost at once. Our callers retry later by themselves.
_RETRY_OPTIONS = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


def broker_options(url: str | None, folder: Path) -> dict[str, Any]:
    """Return the Celery settings for the broker at `url`. Without a URL they are for the embedded broker in `folder`.

    Raises ConfigurationError if that cannot be written.
    """
    if url is None:
        return {
            "broker_url": _EMBEDDED_URL,
            "broker_transport": "worker.embedded_broker:Transport",
            "broker_transport_options": _embedded_options(folder),
        }
    if _is_rabbitmq(url):
        return {"broker_url": url, "broker_heartbeat": AMQP_HEARTBEAT, "broker_transport_options": _amqp_options()}
    return {"broker_url": url, "broker_transport_options": _redis_options()}


def _embedded_options(folder: Path) -> dict[str, Any]:
    messages, control, taken = prepare_broker_folder(folder)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "taken_folder": str(taken),
        "polling_interval": 0.05,  # seconds
        # Celery waits for 2 s at a time and cannot be stopped meanwhile.
        "longest_wait": 0.25,  # seconds
    }


def _amqp_options() -> dict[str, Any]:
    return {
        # Without confirms, publishing to a RabbitMQ that hangs succeeds and the message is lost.
        "confirm_publish": True,
        "confirm_timeout": RESPONSE_TIMEOUT,
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": RESPONSE_TIMEOUT,
        "write_timeout": RESPONSE_TIMEOUT,
        **_RETRY_OPTIONS,
    }


def _redis_options() -> dict[str, Any]:
    return {
        "socket_timeout": RESPONSE_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "visibility_timeout": 60,  # seconds
        "unacked_restore_interval": 1,  # seconds
        "unacked_restore_throttle": 1,  # seconds
        **_RETRY_OPTIONS,
    }


def sync_queue(url: str | None) -> Queue:
    """Return the queue of wake-ups.

    RabbitMQ refuses to declare an existing queue with other arguments. If you change them, choose a new queue name.
    """
    arguments = None
    if _is_rabbitmq(url):
        arguments = {
            "x-queue-type": "quorum",
            # Otherwise a task that crashes its worker is redelivered for ever.
            "x-delivery-limit": 5,
            "x-max-length": MAX_WAKEUPS * 10,
        }
    return Queue(
        "vodsync.sync", Exchange("vodsync", type="topic", durable=True), "vodsync.sync", durable=True, queue_arguments=arguments
    )


#: Plain durable queues without a binding, as most programs declare a queue (kombu's SimpleQueue among them). A program that
#: declares one of them therefore uses the same arguments.
REPROCESS_QUEUE = Queue(REPROCESS, durable=True)
REJECTED_QUEUE = Queue(REJECTED, durable=True)


def declare(connection: Connection, queue: Queue) -> None:
    """Create `queue` if it does not exist. An existing queue is used with the arguments it has."""
    try:
        with connection.channel() as channel:
            queue(channel).queue_declare(passive=True)
    except connection.channel_errors:
        with connection.channel() as channel:
            queue(channel).declare()


def declare_exchange(connection: Connection, exchange: Exchange) -> None:
    """Create `exchange` if it does not exist. An existing exchange of the same type is used with the arguments it has.

    Raises BrokerMismatchError if the existing exchange has another type.
    """
    try:
        with connection.channel() as channel:
            exchange(channel).declare()
    except connection.channel_errors as error:
        # RabbitMQ compares the type first, and only this text identifies the difference.
        if "inequivalent arg 'type'" in str(error):
            raise BrokerMismatchError(
                f"the exchange {exchange.name} was declared by another program, and not as {exchange.type};"
                " delete it, and vodsync creates it again"
            ) from None
        with connection.channel() as channel:
            exchange(channel).declare(passive=True)


def reliable_connection(url: str | None, folder: Path) -> Connection:
    """Return a connection to the broker at `url`, or to the embedded broker in `folder`, that loses no message.

    A message that was delivered and not acknowledged is delivered again, even if the process is killed.
    """
    options = broker_options(url, folder)
    transport_options = options["broker_transport_options"]
    if url is None:
        # Each poll reads the folder. These messages are less urgent than wake-ups.
        transport_options |= {"polling_interval": 0.2}  # seconds
    connection = Connection(
        options["broker_url"], transport_options=transport_options, connect_timeout=CONNECT_TIMEOUT, heartbeat=AMQP_HEARTBEAT
    )
    if not _is_rabbitmq(url):
        # Set only now, because kombu parses the URL according to its own transport.
        connection.transport_cls = f"worker.queue.{'reliable_filesystem' if url is None else 'reliable_redis'}:Transport"
    return connection


def _is_rabbitmq(url: str | None) -> bool:
    return url is not None and url.startswith(("amqp", "pyamqp"))
