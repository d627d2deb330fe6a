"""What a message can ask for. Both carry no data; neither minds coming twice, late, or never."""

from __future__ import annotations

from worker import logs, runtime
from worker.core.errors import StoreUnavailableError
from worker.queue.celery_app import app
from worker.queue.wakeups import wakeup_sender
from worker.store.installation_health import backlog
from worker.sync.drain import DrainResult, drain, drain_video_infos

log = logs.get(__name__)


@app.task(name="vodsync.sync_batch")  # type: ignore[untyped-decorator]
def sync_batch() -> None:
    """Work off what is due, and ring again where that was not all."""
    if work().more_waiting:
        wakeup_sender().send()


@app.task(name="vodsync.sweep")  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Ring for what a lost wake-up left behind."""
    here = runtime.current()
    try:
        with here.store.reading() as connection:
            due = backlog(connection, now=runtime.now()).due
    except StoreUnavailableError as error:
        log.warning("sweep postponed", error=str(error))
        return
    if due:
        wakeup_sender().send()


def work(source: str | None = None) -> DrainResult:
    """One wake-up's worth, or a thread's that serves only `source`.

    A database that is away is no error: the leases give everything back.
    """
    here = runtime.current()
    source_contexts, narrow = (
        (here.source_contexts, here.concurrency_limits) if source is None else ({source: here.source_contexts[source]}, {})
    )
    try:
        worked = drain(
            here.store, source_contexts, now=runtime.now, stopping=here.stopping, wake_workers=wakeup_sender().send, limits=narrow
        )
    except StoreUnavailableError as error:
        log.warning("work postponed", error=str(error))
        return DrainResult()
    if worked.batches:
        here.claimed_at = runtime.now()
    return worked


def look_up(source: str) -> None:
    """What the single-video operation is still to be asked for."""
    here = runtime.current()
    try:
        drain_video_infos(here.store, here.source_contexts[source], now=runtime.now, stopping=here.stopping)
    except StoreUnavailableError as error:
        log.warning("look-ups postponed", source=source, error=str(error))
