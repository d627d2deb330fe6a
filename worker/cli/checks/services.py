"""Check what all sources share: database, schema, workers, broker, spool and disk."""

from __future__ import annotations

import shutil
import uuid
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from worker import runtime
from worker.cli.checks import Finding, Verdict
from worker.cli.output import count_of
from worker.core.errors import StoreUnavailableError, UnsuitableDatabaseError, VodsyncError
from worker.runtime import Runtime
from worker.store import schema
from worker.store.installation_health import NO_WORKER, installation_health
from worker.store.tables import metadata, sync_request

MIN_FREE_DISK = 256 * 2**20  # bytes

BROKER_TIMEOUT = 5.0  # seconds


def check_database(installation: Runtime) -> str:
    """Check that rows can be read, inserted, updated and deleted in every table. The written row is rolled back."""
    try:
        revision = schema.current(installation.store)
        if revision is None:
            return "reachable"
        installation.store.transact(
            partial(_write_and_roll_back, tables=metadata.sorted_tables if revision >= schema.REVISION else [])
        )
    except UnsuitableDatabaseError:
        raise
    except StoreUnavailableError as error:
        raise StoreUnavailableError(f"{error}; check VODSYNC_DATABASE_URL") from error
    return f"{installation.store.engine.dialect.name}, reachable and writable"


def _write_and_roll_back(connection: sa.Connection, *, tables: list[sa.Table]) -> None:
    key = {"source": "doctor", "media_id": uuid.uuid4().hex}
    values = {"reason": "doctor", "priority": 0, "generation": 1, "attempts": 0, "state": "dead"}
    times = {"requested_at": runtime.now(), "available_at": runtime.now()}
    connection.execute(sa.insert(sync_request), {**key, **times, **values})
    same = (sync_request.c.source == key["source"]) & (sync_request.c.media_id == key["media_id"])
    connection.execute(sa.update(sync_request).where(same).values(attempts=1))
    connection.execute(sa.delete(sync_request).where(same))
    # Databases check the privileges of a statement before they look for rows.
    for table in tables:
        column = next(iter(table.columns))
        no_rows = sa.select(table).where(sa.false())
        connection.execute(no_rows)
        connection.execute(sa.insert(table).from_select(list(table.columns), no_rows))
        connection.execute(sa.update(table).where(sa.false()).values({column: column}))
        connection.execute(sa.delete(table).where(sa.false()))
    connection.rollback()


def check_schema(installation: Runtime) -> str:
    revision = schema.check(installation.store)
    return f"revision {revision}" if revision == schema.REVISION else schema.describe_revision(revision)


def check_workers(installation: Runtime) -> Finding | str:
    """Return the known problems of the installation, or the number of workers."""
    with installation.store.reading() as connection:
        health = installation_health(connection, now=runtime.now(), sources=installation.sources)
    alive, problems = sum(map(health.is_alive, health.workers)), health.problems
    verdict = Verdict.BAD if problems else Verdict.UNSURE
    if not alive and not any(NO_WORKER in problem for problem in problems):
        problems.append(NO_WORKER)
    if problems:
        return Finding(verdict, "; ".join(problems))
    return f"{count_of(alive, 'worker')} alive, {count_of(health.backlog.due, 'sync request')} due"


def check_broker() -> str:
    """Send a message and receive it, through a queue that is deleted afterwards."""
    from kombu import Queue

    from worker.queue.celery_app import app

    name = f"vodsync.doctor.{uuid.uuid4().hex}"
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_TIMEOUT)
            channel = connection.default_channel
            queue = Queue(name, routing_key=name, durable=False, auto_delete=True)(channel)
            queue.declare()
            connection.Producer(channel).publish({"doctor": name}, routing_key=name, serializer="json")
            message = queue.get(no_ack=True)
            queue.delete()
    except Exception as error:
        raise VodsyncError(
            f"{type(error).__name__}: {error}; check VODSYNC_BROKER_URL. Until it works, workers find their work by sweeping"
        ) from error
    if message is None:
        raise VodsyncError("the broker accepted a test message, which did not come back; see the log of the broker")
    return "delivered a test message"


def check_spool(installation: Runtime) -> Finding | str:
    if installation.spool is None:
        return "not used with SQLite"
    installation.spool.check()
    spooled = installation.spool.waiting()
    if spooled.count:
        waiting = f"{spooled.count} notifications wait in {installation.spool.path} since {spooled.since}"
        return Finding(Verdict.UNSURE, f"{waiting}; a running receiver moves them to the database")
    return f"{installation.spool.path} is writable and empty"


def check_disk() -> Finding | str:
    """Check the disk of the working directory, which has the spool, the embedded broker and SQLite files by default."""
    directory = Path.cwd()
    free = shutil.disk_usage(directory).free
    if free < MIN_FREE_DISK:
        return Finding(Verdict.BAD, f"only {free // 2**20} MB are free in {directory}; free at least {MIN_FREE_DISK // 2**20} MB")
    return f"{free // 2**20} MB are free in {directory}"
