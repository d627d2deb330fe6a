"""Define the Celery tasks. Their messages carry no data and may be lost, repeated or late."""

from __future__ import annotations

from worker import logs, runtime
from worker.core.errors import StoreUnavailableError
from worker.outage import Outage
from worker.queue.celery_app import app
from worker.queue.wakeups import wakeup_sender
from worker.store.installation_health import backlog
from worker.sync.drain import DrainResult, drain, drain_video_infos

log = logs.get(__name__)

_sweep_outage = Outage()
_work_outage = Outage()
_look_up_outage = Outage()


@app.task(name="vodsync.sync_batch")  # type: ignore[untyped-decorator]  # Celery has no types
def drain_task() -> None:
    """Sync what is due, and send another wake-up if more is waiting."""
    if work().more_waiting:
        wakeup_sender().send()


@app.task(name="vodsync.sweep")  # type: ignore[untyped-decorator]  # Celery has no types
def sweep() -> None:
    """Send a wake-up if something is due, for instance because an earlier wake-up was lost."""
    current = runtime.current()
    try:
        with current.store.reading() as connection:
            due = backlog(connection, now=current.store.now()).due
    except StoreUnavailableError as error:
        if _sweep_outage.failed(str(error)):
            log.warning("sweep postponed", error=str(error))
        return
    if _sweep_outage.recovered():
        log.info("sweep continues")
    if due:
        wakeup_sender().send()


def work(source: str | None = None) -> DrainResult:
    """Sync batches of all sources, or of `source` only, until nothing is due or the budget is used up.

    A database outage is logged and not raised: the leases make interrupted requests due again.
    """
    current = runtime.current()
    if source is None:
        contexts, limits = current.source_contexts, current.concurrency_limits
    else:
        contexts, limits = {source: current.source_contexts[source]}, {}
    try:
        result = drain(
            current.store,
            contexts,
            now=current.store.now,
            stopping=current.stopping,
            wake_workers=wakeup_sender().send,
            limits=limits,
        )
    except StoreUnavailableError as error:
        if _work_outage.failed(str(error)):
            log.warning("work postponed", error=str(error))
        return DrainResult()
    if _work_outage.recovered():
        log.info("work continues")
    if result.batches:
        current.claimed_at = current.store.now()
    return result


def look_up(source: str) -> None:
    """Make the pending GetVideoInfo calls of `source`. A database outage is logged and not raised."""
    current = runtime.current()
    try:
        drain_video_infos(current.store, current.source_contexts[source], now=current.store.now, stopping=current.stopping)
    except StoreUnavailableError as error:
        if _look_up_outage.failed(str(error)):
            log.warning("look-ups postponed", source=source, error=str(error))
    else:
        if _look_up_outage.recovered():
            log.info("look-ups continue", source=source)
