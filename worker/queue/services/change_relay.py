"""The change feed's way out: a worker's thread that publishes to the exchange `vodsync.changes` (VODSYNC_CHANGES=on)."""

from __future__ import annotations

import random
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, timedelta
from typing import Any

from celery import bootsteps
from kombu import Exchange

from worker import logs, runtime
from worker.core.errors import BrokerMismatchError, StoreUnavailableError
from worker.queue.brokers import ANSWER, CONNECT, declare_exchange
from worker.queue.celery_app import app
from worker.store.outbox import Change
from worker.sync.publish_changes import drop_old_changes, publish_changes

log = logs.get(__name__)

EXCHANGE = Exchange("vodsync.changes", type="topic", durable=True)

#: Seconds between two looks for changes, while the broker does not take them, and between two looks for old ones.
_PAUSE, _AWAY, _TIDY = 0.5, 2.0, 60.0


class ChangeRelay(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs beside the pool, in every worker; one at a time has the lease. A broker that is away holds up nobody but this thread.

    Where the feed is off it drops what was left from before, once that is old.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._line = ChangePublisher()
        # Not the worker's name: in containers one process may have the name of another that was killed.
        self._holder = uuid.uuid4().hex
        self._fault: str | None = None

    def start(self, parent: Any) -> None:
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:
        """What is not published by then waits for the next worker."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    terminate = stop

    def _run(self) -> None:
        tidied_at = -_TIDY
        on = runtime.current().settings.changes == "on"
        while not self._stopped.is_set():
            if time.monotonic() - tidied_at > _TIDY:
                tidied_at = time.monotonic()
                self._tidy()
            if not on:
                self._stopped.wait(_TIDY)
            elif not self._announce():
                self._stopped.wait((_AWAY if self._fault else _PAUSE) * random.uniform(0.8, 1.2))  # noqa: S311
        self._line.close()

    def _announce(self) -> int:
        try:
            sent = publish_changes(runtime.current().store, self._line, holder=self._holder, stopping=self._stopped)
        except StoreUnavailableError as error:
            log.warning("announcing postponed", error=str(error))
            return 0
        except BrokerMismatchError as error:
            self._line.close()
            if self._fault != str(error):
                log.error("changes cannot be announced; they wait", error=str(error))
            self._fault = str(error)
            return 0
        except Exception as error:
            self._line.close()
            self._note(f"{type(error).__name__}: {error}")
            return 0
        if sent:
            log.info("changes announced", count=sent)
            self._note(None)
        return sent

    def _tidy(self) -> None:
        here = runtime.current()
        try:
            keep = timedelta(hours=here.settings.changes_keep_hours)
            drop_old_changes(here.store, now=runtime.now(), keep=keep, stopping=self._stopped)
        except StoreUnavailableError as error:
            log.warning("old changes stay", error=str(error))
        except Exception as error:
            # Whatever it is, changes are still to be announced.
            log.error("old changes stay", error=f"{type(error).__name__}: {error}")

    def _note(self, fault: str | None) -> None:
        if fault and not self._fault:
            log.warning("broker does not take changes; they wait", error=fault)
        elif self._fault and not fault:
            log.info("broker takes changes again")
        self._fault = fault


class ChangePublisher:
    """A connection to the broker for one thread alone, kept while it works."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._producer: Any = None

    def open(self) -> None:
        """Make sure that the exchange is there, and so that the broker answers."""
        if self._connection is not None:
            try:
                EXCHANGE(self._connection.default_channel).declare(passive=True)
            except Exception:
                # It stood idle, and the broker may have been started again meanwhile.
                self.close()
            else:
                return
        self._connection = app.connection_for_write()
        self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, interval_max=0, timeout=CONNECT)
        declare_exchange(self._connection, EXCHANGE)
        self._producer = self._connection.Producer(serializer="json", auto_declare=False)

    def send(self, change: Change) -> None:
        """Publish one change; the broker has it once this returns."""
        at = change.changed_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        self._producer.publish(
            {
                "source": change.source,
                "media_id": change.media_id,
                "change": change.change,
                "changed_at": at,
                "fields": change.fields,
            },
            exchange=EXCHANGE,
            routing_key=f"media.{change.change}",
            delivery_mode="persistent",
            message_id=str(change.id),
            timeout=ANSWER,
            confirm_timeout=ANSWER,
        )

    def close(self) -> None:
        """Without a word to a broker that may not listen."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                connection.collect()


app.steps["worker"].add(ChangeRelay)
