"""Where settings become the objects that do the work; every entry point (web, queue, command line) asks here."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property
from urllib.parse import unquote

from worker import logs, settings
from worker.core.errors import ConfigurationError, StoreUnavailableError
from worker.settings import DEFAULT_SOURCE, Settings, Source
from worker.store import Store, schema
from worker.store.spool import Spool
from worker.sync.drain import ConcurrencyLimits, SourceContext
from worker.sync.jobs import backfill, reconcile, renormalise, replay
from worker.sync.jobs.backfill import Backfill
from worker.sync.jobs.listing import Listing
from worker.sync.jobs.reconcile import Reconcile
from worker.sync.jobs.renormalise import Renormalise
from worker.sync.jobs.replay import Replay
from worker.sync.jobs.run import Kind, Kinds
from worker.sync.retention import Keep
from worker.sync.retry_policy import Policy

log = logs.get(__name__)

#: Seconds between two reminders in the log.
_REMIND = 30.0


class Runtime:
    """One process's view of the installation. Nothing connects before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started_at = now()
        #: When this process last took work.
        self.claimed_at: datetime | None = None
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        #: Set once the process is asked to stop; loops end at their next step.
        self.stopping = threading.Event()
        #: Between this process's pool and its sources; made by the worker, which knows how many threads it has.
        self.concurrency_limits: ConcurrencyLimits = {}
        #: Whether this process collects what VOD wrote to queues; a worker's flag.
        self.collecting = False

    @cached_property
    def store(self) -> Store:
        return Store.open(self.settings.database_url.get_secret_value(), schema=self.settings.database_schema)

    @cached_property
    def spool(self) -> Spool | None:
        """What takes notifications while the database cannot. A database that is a local file would be away together with it."""
        return None if self.store.engine.dialect.name == "sqlite" else Spool(self.settings.spool)

    @cached_property
    def sources(self) -> dict[str, Source]:
        return self.settings.all_sources

    @cached_property
    def unserved(self) -> dict[str, str]:
        """Why this process cannot serve some of the sources. Raises ConfigurationError where it can serve none."""
        return self.require_credentials()

    @cached_property
    def source_contexts(self) -> dict[str, SourceContext]:
        """The sources that this process can serve. Raises ConfigurationError where there is none."""
        for name, why in self.unserved.items():
            log.error("source is not served", source=name, error=f"{why}; then start this worker again")
        from worker.vod.client import Client  # half a second and 40 MB, of which the receiver needs nothing

        served = {name: source for name, source in self.sources.items() if name not in self.unserved}
        return {name: SourceContext(name, Client(source), self.policy(name)) for name, source in served.items()}

    @cached_property
    def kinds(self) -> Kinds:
        """The long runs that this process can work on, by source and name."""
        kinds: dict[tuple[str, str], Kind] = {}
        for name, source_context in self.source_contexts.items():
            rate = self.sources[name].search_qps
            bucket = source_context.policy.bucket or name
            listing = Listing(self.store, source_context.vod, name, bucket, rate, sleep=self.stopping.wait)
            kinds[name, backfill.KIND] = Backfill(listing)
            most = self.settings.most_deleted_percent
            kinds[name, reconcile.KIND] = Reconcile(listing, source_context.policy, most_deleted_percent=most)
            kinds[name, renormalise.KIND] = Renormalise(self.store, name, announce=source_context.policy.announce)
            kinds[name, replay.KIND] = Replay(self.store, name)
        return kinds

    @cached_property
    def keep(self) -> Keep:
        """How long what is kept."""
        notifications, jobs = self.settings.keep_notifications_days, self.settings.keep_jobs_days
        return Keep(timedelta(days=notifications) if notifications else None, timedelta(days=jobs) if jobs else None)

    def policy(self, name: str) -> Policy:
        source = self.sources[name]
        return Policy(
            bucket=next(other for other, described in self.sources.items() if described.account == source.account),
            linger=timedelta(milliseconds=self.settings.linger_ms),
            lease=timedelta(seconds=self.settings.lease),
            calls_per_second=source.api_qps,
            max_attempts=self.settings.max_attempts,
            give_up=timedelta(hours=self.settings.follow_up_hours),
            video_info=source.video_info == "on",
            announce=self.settings.changes == "on",
        )

    def require_schema(self, *, waiting: bool) -> bool:
        """True where the database has the schema that we need. Raises SchemaStale.

        A server that is away at the start is waited for, or else the answer is False. A local file that cannot be opened stays so:
        raises StoreUnavailable.
        """
        told_at = 0.0
        while True:
            try:
                schema.check(self.store)
            except StoreUnavailableError as error:
                if self.spool is None:
                    raise
                if time.monotonic() - told_at > _REMIND:
                    told_at = time.monotonic()
                    log.warning("database is away at the start", error=str(error))
                if not waiting:
                    return False
                time.sleep(1)
            else:
                return True

    def require_credentials(self, *only: str) -> dict[str, str]:
        """The sources (or `only` these) without keys for which the vendor's credential chain finds none, and what to do about it.

        Raises ConfigurationError where that is all of them, and where one has half a pair of keys.
        """
        asked = {name: source for name, source in self.sources.items() if name in (only or self.sources)}
        without: dict[str, str] = {}
        for name in [name for name, source in asked.items() if not source.has_keys(name)]:
            from worker.vod.client import require_credential_chain

            try:
                require_credential_chain(name)
            except ConfigurationError as error:
                without[name] = str(error)
        if without and len(without) == len(asked):
            raise ConfigurationError("; ".join(without.values()))
        return without

    def require_queues(self) -> dict[str, Source]:
        """The sources whose events come through a queue. Raises ConfigurationError where there is none, or half of one."""
        found = {name: source for name, source in self.sources.items() if source.has_queue(name)}
        if not found:
            raise ConfigurationError(
                "no source names a queue to collect from; set VODSYNC_SMQ_ENDPOINT and VODSYNC_SMQ_QUEUE as configured at VOD"
            )
        return found

    def require_callbacks(self) -> None:
        """Raises ConfigurationError where a source's callbacks could not be verified."""
        for name, source in self.sources.items():
            try:
                source.require_callback(name)
            except ConfigurationError as error:
                if name != DEFAULT_SOURCE or not self.settings.sources:
                    raise
                outside = ", ".join(sorted(map(settings.variable, self.settings.model_fields_set & set(Source.model_fields))))
                raise ConfigurationError(f"{error}; there is a source `default` because {outside} is set") from None


def now() -> datetime:
    return datetime.now(UTC)


_current: Runtime | None = None
_lock = threading.Lock()


def start(chosen: Settings) -> Runtime:
    """Make `chosen` this process's settings, and its log theirs."""
    global _current
    logs.configure(chosen.log_level, secrets=_secrets(chosen))
    _current = Runtime(chosen)
    return _current


def current() -> Runtime:
    """This process's runtime, from environment and files unless `start` was called. Raises ConfigurationError."""
    with _lock:
        return _current or start(settings.load())


def refusal(error: object) -> SystemExit:
    """What ends a process that cannot start: a sentence on stderr, and the exit code for configuration."""
    print(f"vodsync: {logs.redactor.text(str(error))}", file=sys.stderr)
    return SystemExit(3)


def current_or_exit() -> Runtime:
    """For processes that other people's commands start (celery, uvicorn): a bad setting ends them with a sentence and code 3."""
    try:
        return current()
    except ConfigurationError as error:
        raise refusal(error) from None


def _secrets(chosen: Settings) -> list[str]:
    found = []
    for source in chosen.all_sources.values():
        found += [key.get_secret_value() for key in source.callback_keys]
        found += [secret.get_secret_value() for secret in (source.access_key_secret, source.security_token) if secret]
    if chosen.admin_token:
        found.append(chosen.admin_token.get_secret_value())
    for url in (chosen.database_url, chosen.broker_url):
        if url and (password := logs.password(url.get_secret_value())):
            found += [password, unquote(password)]
    return found
