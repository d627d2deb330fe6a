"""Jobs that start by the clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from worker import logs
from worker.store import Store
from worker.store.jobs.job_rows import Jobs
from worker.sync.jobs import reconcile

log = logs.get(__name__)


def start_due(store: Store, source: str, *, now: datetime, every: timedelta, full_every: timedelta) -> None:
    """Start a reconciliation where it is time for one; an interval of zero is never. Any worker may ask at any time."""
    # The full one first: where both are due it does the work of both.
    for name, interval, full in (("reconcile-full", full_every, True), ("reconcile", every, False)):
        if interval and store.transact(partial(_start, source=source, name=name, interval=interval, full=full, now=now)):
            log.info("reconciliation started", source=source, full=full)


def _start(connection: Connection, *, source: str, name: str, interval: timedelta, full: bool, now: datetime) -> bool:
    jobs = Jobs(connection)
    if not jobs.due(source, name, interval, now=now):
        return False
    parameters = {"full": full, "allow_mass_delete": False, "dry_run": False}
    _, new = jobs.start(source, reconcile.KIND, parameters, now=now)
    if not new:
        # It is still due once the one that runs is over.
        connection.rollback()
        return False
    return True
