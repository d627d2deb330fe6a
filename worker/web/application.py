"""What stands at which path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from worker import logs, runtime
from worker.core.errors import VodsyncError
from worker.queue.doorbell import doorbell
from worker.store import schema
from worker.store.inbox import Delivery
from worker.sync.receive import receive
from worker.web import answers
from worker.web.group_commit import GroupCommit
from worker.web.health import Health
from worker.web.receiver import Receiver

log = logs.get(__name__)


def create() -> Starlette:
    """The application of this process's runtime. A setting that makes it unsafe ends the process with a sentence."""
    here = runtime.current_or_exit()
    try:
        here.require_callbacks()
        schema.check(here.store)
    except VodsyncError as error:
        raise runtime.refusal(error) from None
    bell = doorbell()
    group: GroupCommit[Delivery] = GroupCommit(
        lambda deliveries: receive(here.store, deliveries, now=runtime.now()), after=bell.ring
    )
    receiver = Receiver(here.sources, group, now=runtime.now)
    health = Health(here.store, broker_fault=lambda: bell.fault, now=runtime.now)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        unsigned = [name for name, source in here.sources.items() if source.callback_unsigned == "accept"]
        if unsigned:
            log.warning("callbacks are taken from anybody", sources=",".join(unsigned))
        log.info("receiver started", sources=",".join(here.sources))
        yield
        await group.close()
        bell.close()
        health.close()
        here.store.close()
        log.info("receiver stopped")

    app = Starlette(
        routes=[
            Route("/callbacks", receiver, methods=["POST"]),
            Route("/callbacks/{source}", receiver, methods=["POST"]),
            Route("/livez", health.livez),
            Route("/readyz", health.readyz),
            Route("/statusz", health.statusz),
        ],
        exception_handlers={HTTPException: answers.not_routed, Exception: answers.failed},
        lifespan=lifespan,
    )
    # A redirect counts as a failed delivery (vod-protocol 1.1), and is no error in our shape.
    app.router.redirect_slashes = False
    return app
