"""Check what all sources share: database, schema, workers, broker, spool and disk."""

from __future__ import annotations

import shutil
import socket
import uuid
from pathlib import Path

from worker import runtime
from worker.cli.checks import Finding, Verdict
from worker.cli.output import count_of
from worker.core.errors import VodsyncError, describe_error
from worker.runtime import Runtime
from worker.store import schema
from worker.store.installation_health import NO_WORKER, clock_problem, installation_health
from worker.store.sessions import is_pooled
from worker.store.write_check import check_privileges, check_write

MIN_FREE_DISK = 256 * 2**20  # bytes

BROKER_TIMEOUT = 5.0  # seconds


def check_database(installation: Runtime) -> str:
    """Check that rows can be read, inserted, updated and deleted in every table. What is written is rolled back."""
    revision = schema.current(installation.store)
    if revision is None:
        return "reachable"
    check_write(installation.store, now=installation.store.now())
    if revision >= schema.REVISION:
        check_privileges(installation.store)
    with installation.store.reading() as connection:
        pooler = ", through a connection pooler" if is_pooled(connection) else ""
    return f"{installation.store.engine.dialect.name}, reachable and writable{pooler}"


def check_schema(installation: Runtime) -> str:
    revision = schema.check_start(installation.store)
    return f"revision {revision}" if revision == schema.REVISION else schema.describe_revision(revision)


def check_workers(installation: Runtime) -> Finding | str:
    """Return the known problems of the installation, or the number of workers."""
    with installation.store.reading() as connection:
        health = installation_health(connection, now=installation.store.now(), sources=installation.sources)
    alive, problems = sum(map(health.is_alive, health.workers)), health.problems
    verdict = Verdict.BAD if problems else Verdict.UNSURE
    if not alive and not any(NO_WORKER in problem for problem in problems):
        problems.append(NO_WORKER)
    if problems:
        return Finding(verdict, "; ".join(problems))
    return f"{count_of(alive, 'worker')} alive, {count_of(health.backlog.due, 'sync request')} due"


def check_clock(installation: Runtime) -> Finding | str:
    """Compare this machine's clock with the database's."""
    with installation.store.reading():
        ahead = installation.store.clock.machine_ahead
    problem = clock_problem(socket.gethostname(), ahead)
    if problem:
        return Finding(Verdict.BAD, problem)
    return f"within {max(1, round(abs(ahead.total_seconds())))} s of the database's clock"


def check_broker() -> str:
    """Send a message and receive it, through a queue that is deleted afterwards."""
    runtime.current().require_broker()
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
        settings = runtime.current().settings
        check = "VODSYNC_BROKER_URL" if settings.broker_url else "VODSYNC_BROKER_FOLDER, its disk and its rights"
        raise VodsyncError(
            f"{describe_error(error)}; check {check}. Until it works, workers find their work by sweeping"
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


def check_refused(installation: Runtime) -> Finding | str:
    """Report the notifications that the database refused and that this machine keeps."""
    problem = installation.refused.summary().problem
    return Finding(Verdict.BAD, problem) if problem else "the database refused no notification of this machine"


def check_disk() -> Finding | str:
    """Check the disk of the working directory, which has the spool, the embedded broker and SQLite files by default."""
    directory = Path.cwd()
    free = shutil.disk_usage(directory).free
    if free < MIN_FREE_DISK:
        return Finding(Verdict.BAD, f"only {free // 2**20} MB are free in {directory}; free at least {MIN_FREE_DISK // 2**20} MB")
    return f"{free // 2**20} MB are free in {directory}"
