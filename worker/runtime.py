"""Create the objects of one process from its settings: store, spool, sources, and what they need.

Every entry point (web, queue, command line) gets them from here. Modules are imported when something needs them, so that a short
command imports neither the use cases nor the SDK.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote

from worker import folders, logs, settings
from worker.core.errors import ConfigurationError, StoreUnavailableError, UnsuitableDatabaseError
from worker.settings import DEFAULT_SOURCE, Settings, Source

if TYPE_CHECKING:
    from worker.store import Store
    from worker.store.refused import RefusedDeliveries
    from worker.store.spool import Spool
    from worker.sync.drain import ConcurrencyLimits
    from worker.sync.jobs.step import Kind, Kinds
    from worker.sync.retention import RetentionPeriods
    from worker.sync.source_context import SourceContext, SyncSettings

log = logs.get(__name__)

DATABASE_RETRY_INTERVAL = 1.0  # seconds
DATABASE_LOG_INTERVAL = 30.0  # seconds between two log lines about an unreachable database


class Runtime:
    """The settings of this process and the objects made from them. Each object is made, and connects, when it is first used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: When this process last claimed sync requests, by the database's clock.
        self.claimed_at: datetime | None = None
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        #: Set when the process is asked to stop. Loops end at their next step.
        self.stopping = threading.Event()
        #: How many threads of the pool may serve one source. Set by the worker, which knows the size of its pool.
        self.concurrency_limits: ConcurrencyLimits = {}
        #: True if this process reads the queues that VOD writes to (`vodsync work --smq`).
        self.reads_queues = False

    @cached_property
    def store(self) -> Store:
        from worker.store import Store

        return Store.open(self.settings.database_url.get_secret_value(), schema=self.settings.database_schema)

    @cached_property
    def spool(self) -> Spool | None:
        """The local file for notifications that the database does not take. None with SQLite: both files would fail together."""
        from worker.store.spool import Spool

        return None if self.store.engine.dialect.name == "sqlite" else Spool(self.settings.spool)

    @cached_property
    def refused(self) -> RefusedDeliveries:
        """The notifications that the database refuses, in the file of the spool. It is created when the first one is refused."""
        from worker.store.refused import RefusedDeliveries

        return RefusedDeliveries(self.settings.spool)

    @cached_property
    def sources(self) -> dict[str, Source]:
        return self.settings.all_sources

    @cached_property
    def unserved(self) -> dict[str, str]:
        """The sources that this process cannot serve, and why. Raises ConfigurationError if it can serve none."""
        return self.require_credentials()

    @cached_property
    def source_contexts(self) -> dict[str, SourceContext]:
        """The sources that this process can serve. Raises ConfigurationError if it can serve none."""
        for name, reason in self.unserved.items():
            log.error("source is not served", source=name, error=f"{reason}; then start this worker again")
        from worker.sync.source_context import SourceContext

        # The SDK takes half a second and 40 MB. The receiver never needs it.
        from worker.vod.client import Client

        served = {name: source for name, source in self.sources.items() if name not in self.unserved}
        return {name: SourceContext(name, Client(source), self.sync_settings(name)) for name, source in served.items()}

    @cached_property
    def kinds(self) -> Kinds:
        """The long runs that this process can work on, by source and kind."""
        from worker.sync.jobs.listing import Listing
        from worker.sync.jobs.registry import kinds_of

        kinds: dict[tuple[str, str], Kind] = {}
        for name, context in self.source_contexts.items():
            calls_per_second = self.sources[name].search_qps
            listing = Listing(self.store, context.vod, name, context.rate_limit_name, calls_per_second, sleep=self.stopping.wait)
            of_source = kinds_of(listing, context.settings, most_deleted_percent=self.settings.most_deleted_percent)
            kinds |= {(name, kind_name): kind for kind_name, kind in of_source.items()}
        return kinds

    @cached_property
    def retention(self) -> RetentionPeriods:
        """How long notifications and jobs are kept."""
        from worker.sync.retention import RetentionPeriods

        notifications, jobs = self.settings.keep_notifications_days, self.settings.keep_jobs_days
        return RetentionPeriods(timedelta(days=notifications) if notifications else None, timedelta(days=jobs) if jobs else None)

    def sync_settings(self, name: str) -> SyncSettings:
        """Return the limits and the retry policy of one source. Sources of the same account share one rate limit."""
        from worker.sync.retry_policy import RetryPolicy
        from worker.sync.source_context import SyncSettings

        source = self.sources[name]
        return SyncSettings(
            rate_limit_name=next(sharing for sharing, described in self.sources.items() if described.account == source.account),
            linger=timedelta(milliseconds=self.settings.linger_ms),
            lease=timedelta(seconds=self.settings.lease),
            calls_per_second=source.api_qps,
            retry=RetryPolicy(
                max_attempts=self.settings.max_attempts, follow_up_limit=timedelta(hours=self.settings.follow_up_hours)
            ),
            video_info=source.video_info == "on",
            announce=self.settings.changes == "on",
        )

    def address(self, host: str | None, port: int | None) -> tuple[str, int]:
        """Return the address of the receiver; the arguments, from the command line, replace the settings."""
        return host or self.settings.host, self.settings.port if port is None else port

    def require_schema(self, *, waiting: bool) -> bool:
        """Return True if the database has the schema that this release needs, or a newer one.

        Raises StaleSchemaError if it has an older one. If the server is unreachable: with `waiting` retry until it is back, else
        return False. A SQLite file that cannot be opened will not get better: raises StoreUnavailableError. Neither will a database
        that is set up wrongly: UnsuitableDatabaseError.
        """
        from worker.store import schema

        logged_at = 0.0
        while True:
            try:
                revision = schema.check_start(self.store)
            except UnsuitableDatabaseError:
                raise
            except StoreUnavailableError as error:
                if self.spool is None:
                    raise
                if time.monotonic() - logged_at > DATABASE_LOG_INTERVAL:
                    logged_at = time.monotonic()
                    log.warning("database unreachable at start", error=str(error))
                if not waiting:
                    return False
                time.sleep(DATABASE_RETRY_INTERVAL)
            else:
                if revision > schema.REVISION:
                    log.info("schema is newer than this release needs; running on it", revision=revision, expected=schema.REVISION)
                return True

    def require_credentials(self, *names: str) -> dict[str, str]:
        """Return the sources (of `names`, or of all) that have no credentials, and what to do about each.

        A source without keys in the settings uses the vendor's credential chain. Raises ConfigurationError if no source has
        credentials, and if one has only half of a pair of keys.
        """
        sources = {name: source for name, source in self.sources.items() if name in (names or self.sources)}
        missing: dict[str, str] = {}
        for name in [name for name, source in sources.items() if not source.has_keys(name)]:
            from worker.vod.client import require_credential_chain

            try:
                require_credential_chain(name)
            except ConfigurationError as error:
                missing[name] = str(error)
        if missing and len(missing) == len(sources):
            raise ConfigurationError("; ".join(missing.values()))
        return missing

    def require_queues(self) -> dict[str, Source]:
        """Return the sources whose events come through a queue. Raises ConfigurationError if there is none, or half an address."""
        sources = {name: source for name, source in self.sources.items() if source.has_queue(name)}
        if not sources:
            raise ConfigurationError(
                "no source has a queue; set VODSYNC_SMQ_ENDPOINT and VODSYNC_SMQ_QUEUE as configured at VOD, or leave out --smq"
            )
        return sources

    def require_broker(self) -> None:
        """Create the folder of the embedded broker, if that is used. Raises ConfigurationError if it cannot be written."""
        if self.settings.broker_url is None:
            folders.prepare_broker_folder(self.settings.queue_folder)

    def require_spool(self) -> None:
        """Raises ConfigurationError if the spool, if one is used, cannot be written."""
        if self.spool is not None:
            folders.require_spool(self.spool.path)

    def require_callbacks(self) -> None:
        """Raises ConfigurationError if the receiver could not verify the callbacks of a source."""
        for name, source in self.sources.items():
            try:
                source.require_callback(name)
            except ConfigurationError as error:
                if name != DEFAULT_SOURCE or not self.settings.sources:
                    raise
                described = self.settings.model_fields_set & set(Source.model_fields)
                variables = ", ".join(sorted(map(settings.variable, described)))
                raise ConfigurationError(f"{error}; the source `default` exists because {variables} is set") from None


def machine_time() -> datetime:
    """Return the time by this machine's clock, for what is compared with VOD's clock. All else uses `Store.now`."""
    return datetime.fromtimestamp(time.time(), UTC)


_current: Runtime | None = None
_lock = threading.Lock()


def start(settings: Settings) -> Runtime:
    """Make these the settings of this process, and configure its log."""
    global _current
    logs.configure(settings.log_level, secrets=_secrets(settings))
    _current = Runtime(settings)
    return _current


def current() -> Runtime:
    """Return the runtime of this process; the first call loads the settings. Raises ConfigurationError."""
    with _lock:
        return _current or start(settings.load())


def refusal(error: object) -> SystemExit:
    """Print why this process cannot start. Return the exception that ends it with the exit code for configuration."""
    print(f"vodsync: {logs.redactor.text(str(error))}", file=sys.stderr, flush=True)
    return SystemExit(3)


def current_or_exit() -> Runtime:
    """Return the runtime; a bad setting ends the process with one sentence and code 3.

    For processes that are started by another program's command, such as celery or uvicorn.
    """
    try:
        return current()
    except ConfigurationError as error:
        raise refusal(error) from None


def _secrets(settings: Settings) -> Iterator[str]:
    """Yield every secret in the settings, for the log's redactor."""
    for source in settings.all_sources.values():
        for secret in (*source.callback_keys, source.access_key_secret, source.security_token):
            if secret:
                yield secret.get_secret_value()
    if settings.admin_token:
        yield settings.admin_token.get_secret_value()
    for url in (settings.database_url, settings.broker_url):
        if url and (password := logs.password(url.get_secret_value())):
            yield password
            yield unquote(password)
