"""What a message can ask for. Both carry no data; neither minds coming twice, late, or never."""

from __future__ import annotations

from worker import logs, runtime
from worker.core.errors import StoreUnavailable
from worker.queue.celery_app import app
from worker.queue.doorbell import doorbell
from worker.store.overview import backlog
from worker.sync.work import Worked, work_off

log = logs.get(__name__)


@app.task(name="vodsync.sync_batch")  # type: ignore[untyped-decorator]
def sync_batch() -> None:
    """Work off what is due, and ring again where that was not all."""
    if work().more_waiting:
        doorbell().ring()


@app.task(name="vodsync.sweep")  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Ring for what a lost wake-up left behind."""
    here = runtime.current()
    try:
        with here.store.reading() as connection:
            due = backlog(connection, now=runtime.now()).due
    except StoreUnavailable as error:
        log.warning("sweep postponed", error=str(error))
        return
    if due:
        doorbell().ring()


def work() -> Worked:
    """One wake-up's worth. A database that is away is no error: the leases give everything back."""
    here = runtime.current()
    try:
        worked = work_off(here.store, here.lanes, now=runtime.now, stopping=here.stopping)
    except StoreUnavailable as error:
        log.warning("work postponed", error=str(error))
        return Worked()
    if worked.batches:
        here.claimed_at = runtime.now()
    return worked
