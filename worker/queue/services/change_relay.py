"""Publish the change feed: send the changes in the outbox to the exchange `vodsync.changes` (VODSYNC_CHANGES=on)."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, timedelta
from typing import Any

from kombu import Exchange

from worker import logs, runtime
from worker.background import BackgroundLoop
from worker.core.errors import BrokerMismatchError, StoreUnavailableError, describe_error
from worker.outage import Outage
from worker.queue.brokers import CONNECT_TIMEOUT, RESPONSE_TIMEOUT, declare_exchange
from worker.queue.celery_app import app
from worker.queue.services.base import Service
from worker.store.outbox import Change
from worker.sync.publish_changes import drop_old_changes, publish_changes

log = logs.get(__name__)

EXCHANGE = Exchange("vodsync.changes", type="topic", durable=True)

POLL_INTERVAL = 0.5  # seconds between two looks into the outbox
OUTAGE_POLL_INTERVAL = 2.0  # seconds, while the broker does not accept changes
CLEANUP_INTERVAL = 60.0  # seconds between two deletions of old changes


class ChangeRelay(Service):
    """One thread in every worker; the one that holds a lease in the database publishes. A broker outage delays only this thread.

    If the feed is off, the thread only deletes changes that remain from before, once they are old.
    """

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._publisher = ChangePublisher()
        # Not the worker's name: in containers a new process may have the same name as one that was killed.
        self._lease_holder = uuid.uuid4().hex
        self._cleaned_up_at = -CLEANUP_INTERVAL
        self._broker = Outage()
        self._database = Outage()

    def loops(self, concurrency: int) -> Iterator[BackgroundLoop]:
        yield BackgroundLoop("change-relay", self.step, failure="change relay failed", finish=self._publisher.close)

    def step(self) -> float:
        """Publish a group of changes, and delete old ones once a minute. Return the seconds until the next call."""
        if time.monotonic() - self._cleaned_up_at > CLEANUP_INTERVAL:
            self._cleaned_up_at = time.monotonic()
            self._delete_old()
        if runtime.current().settings.changes != "on":
            return CLEANUP_INTERVAL
        if self._publish():
            return 0.0
        interval = OUTAGE_POLL_INTERVAL if self._broker.active else POLL_INTERVAL
        return interval * random.uniform(0.8, 1.2)  # noqa: S311  # spreads the load; not a secret

    def _publish(self) -> int:
        """Return how many changes were published. Changes that were not are tried again with the next call."""
        current = runtime.current()
        try:
            count = publish_changes(current.store, self._publisher, holder=self._lease_holder, stopping=current.stopping)
        except StoreUnavailableError as error:
            if self._database.failed(str(error)):
                log.warning("publishing of changes postponed", error=str(error))
            return 0
        except BrokerMismatchError as error:
            self._publisher.close()
            if self._broker.failed(str(error), kind="mismatch"):
                log.error("changes cannot be published; they wait", error=str(error))
            return 0
        except Exception as error:
            self._publisher.close()
            message = describe_error(error)
            if self._broker.failed(message):
                log.warning("broker does not take changes; they wait", error=message)
            return 0
        if self._database.recovered():
            log.info("publishing of changes continues")
        if count:
            log.info("changes published", count=count)
            if self._broker.recovered():
                log.info("broker takes changes again")
        return count

    def _delete_old(self) -> None:
        current = runtime.current()
        keep = timedelta(hours=current.settings.changes_keep_hours)
        try:
            drop_old_changes(current.store, now=current.store.now(), keep=keep, stopping=current.stopping)
        except Exception as error:
            # Must not prevent the publishing of new changes. Tried again after `CLEANUP_INTERVAL`.
            level = log.warning if isinstance(error, StoreUnavailableError) else log.error
            level("old changes were not deleted", error=describe_error(error))


class ChangePublisher:
    """Publishes changes through a connection of its own, which stays open between groups. For one thread."""

    def __init__(self) -> None:
        self._connection: Any = None  # kombu has no types
        self._producer: Any = None

    def open(self) -> None:
        """Connect if necessary, and declare the exchange. Raises the broker's or the socket's error if that fails.

        Raises BrokerMismatchError if the exchange exists with another type.
        """
        if self._connection is not None:
            try:
                EXCHANGE(self._connection.default_channel).declare(passive=True)
            except Exception:
                # The broker may have been restarted while the connection was idle.
                self.close()
            else:
                return
        self._connection = app.connection_for_write()
        self._connection.ensure_connection(
            max_retries=1, interval_start=0, interval_step=0, interval_max=0, timeout=CONNECT_TIMEOUT
        )
        declare_exchange(self._connection, EXCHANGE)
        self._producer = self._connection.Producer(serializer="json", auto_declare=False)

    def send(self, change: Change) -> None:
        """Publish one change. Return once the broker has confirmed it; raises if it does not."""
        changed_at = change.changed_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        self._producer.publish(
            {
                "source": change.source,
                "media_id": change.media_id,
                "change": change.change,
                "changed_at": changed_at,
                "fields": change.fields,
            },
            exchange=EXCHANGE,
            routing_key=f"media.{change.change}",
            delivery_mode="persistent",
            message_id=str(change.id),
            timeout=RESPONSE_TIMEOUT,
            confirm_timeout=RESPONSE_TIMEOUT,
        )

    def close(self) -> None:
        """Drop the connection without the protocol's goodbye, which a broker that hangs would not answer."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                connection.collect()
