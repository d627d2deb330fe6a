"""`vodsync work`: run a worker."""

from __future__ import annotations

from typing import Annotated

import typer

from worker import logs, runtime
from worker.cli.options import Concurrency, PollSmq, Supervised
from worker.cli.output import Exit
from worker.cli.supervisor import end_with_parent

log = logs.get(__name__)


def work(
    concurrency: Concurrency = 4,
    beat: Annotated[
        bool, typer.Option("--beat", help="Also send the periodic sweep task. One process of an installation is enough.")
    ] = False,
    smq: PollSmq = False,
    supervised: Supervised = False,
) -> None:
    """Run a worker, which fetches due media from VOD and stores them.

    One call to VOD fetches up to 20 media. `celery -A worker.queue worker` runs the same worker, without --smq.
    """
    installation = runtime.current()
    installation.require_credentials()
    if smq:
        installation.require_queues()
        installation.reads_queues = True
    if supervised:
        end_with_parent()
    installation.require_broker()
    installation.require_schema(waiting=True)
    # Importing worker.queue builds the Celery application from the settings. The checks above end with a better message.
    from celery.beat import EmbeddedService

    from worker.queue import app
    from worker.queue.beat import Scheduler

    if len(installation.source_contexts) > 1:
        # With one thread, a slow answer for one source would stop the fetches of all sources.
        concurrency = max(2, concurrency)
    worker = app.Worker(
        hostname=f"vodsync@{installation.name}",
        concurrency=concurrency,
        pool="threads",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    beat_thread = EmbeddedService(app, thread=True, scheduler_cls=Scheduler) if beat else None
    if beat_thread is not None:
        beat_thread.start()
    log.info("worker started", name=installation.name, concurrency=concurrency, beat=beat, smq=smq)
    worker.start()
    if beat_thread is not None:
        # beat_thread.stop() would wait for the next beat.
        beat_thread.service.stop()
    log.info("worker stopped", name=installation.name)
    raise typer.Exit(worker.exitcode or Exit.DONE)
