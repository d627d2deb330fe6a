"""Start reconciliations at their intervals."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from worker import logs
from worker.store import Store
from worker.store.jobs.job_rows import Jobs
from worker.store.jobs.schedule import Schedule
from worker.sync.jobs import reconcile
from worker.sync.jobs.reconcile_phases import Parameters
from worker.sync.jobs.step import to_json

log = logs.get(__name__)


def start_due(store: Store, source: str, *, now: datetime, every: timedelta, full_every: timedelta) -> None:
    """Start an incremental or a full reconciliation if its interval is over. An interval of zero means never.

    Every worker may call this at any time: of all workers, one starts the job.
    """
    # The full one first: if both are due, it does the work of both.
    for name, interval, full in (("reconcile-full", full_every, True), ("reconcile", every, False)):
        if interval and store.transact(partial(_start, source=source, name=name, interval=interval, full=full, now=now)):
            log.info("reconciliation started", source=source, full=full)


def _start(connection: Connection, *, source: str, name: str, interval: timedelta, full: bool, now: datetime) -> bool:
    if not Schedule(connection).advance_if_due(source, name, interval, now=now):
        return False
    _, is_new = Jobs(connection).start(source, reconcile.KIND, to_json(Parameters(full=full)), now=now)
    if not is_new:
        # Another reconciliation runs. This one stays due until that one is over.
        connection.rollback()
        return False
    return True
