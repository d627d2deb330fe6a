"""What stands at which path."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from worker import logs, runtime
from worker.core.errors import VodsyncError
from worker.queue.wakeups import wakeup_sender
from worker.store.inbox.sync_requests import Delivery
from worker.sync import receive as receiving
from worker.web import responses
from worker.web.group_commit import GroupCommit
from worker.web.health import Health
from worker.web.receiver import Receiver
from worker.web.spool_drainer import SpoolDrainer

log = logs.get(__name__)


#: Seconds.
_SWITCH = 0.0003


class Application(Starlette):
    """Takes POST /callbacks straight to the receiver: Starlette's layers would cost it as much again as its own work."""

    def __init__(self, receiver: ASGIApp, **options: Any) -> None:
        super().__init__(**options)
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/callbacks" and scope["method"] == "POST":
            await self._receiver(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create() -> Starlette:
    """The application of this process's runtime. A setting that makes it unsafe ends the process with a sentence."""
    here = runtime.current_or_exit()
    try:
        here.require_callbacks()
        away = not here.require_schema(waiting=False)
    except VodsyncError as error:
        raise runtime.refusal(error) from None
    bell = wakeup_sender()

    def commit(deliveries: Sequence[Delivery]) -> None:
        receiving.receive(here.store, deliveries, now=runtime.now())

    forwarder = SpoolDrainer(here.store, here.spool, commit, after=bell.send) if here.spool else None
    group: GroupCommit[Delivery] = GroupCommit(commit, after=bell.send, lanes=2 if here.spool else 1, standby=forwarder)
    receiver = Receiver(here.sources, group, now=runtime.now)
    health = Health(
        here.store,
        here.spool,
        sources=here.sources,
        database_fault=lambda: forwarder.fault if forwarder else None,
        broker_fault=lambda: bell.error,
        refusals=lambda: receiver.problems,
        now=runtime.now,
        feed=here.settings.changes == "on",
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        unsigned = [name for name, source in here.sources.items() if source.callback_unsigned == "accept"]
        if unsigned:
            log.warning("callbacks are taken from anybody", sources=",".join(unsigned))
        # What stands here now stays: without this each full collection stops every request for some 60 ms.
        gc.collect()
        gc.freeze()
        # The event loop and a thread that commits take turns; by default either waits up to 5 ms for the other to give way.
        sys.setswitchinterval(_SWITCH)
        if forwarder:
            forwarder.start(away=away)
        log.info("receiver started", sources=",".join(here.sources))
        yield
        await group.close()
        if forwarder:
            await asyncio.to_thread(forwarder.close)
        bell.close()
        health.close()
        here.store.close()
        log.info("receiver stopped")

    app = Application(
        receiver,
        routes=[
            Route("/callbacks", receiver, methods=["POST"]),
            Route("/callbacks/{source}", receiver, methods=["POST"]),
            Route("/livez", health.livez),
            Route("/readyz", health.readyz),
            Route("/statusz", health.statusz),
        ],
        exception_handlers={HTTPException: responses.not_routed, Exception: responses.failed},
        lifespan=lifespan,
    )
    # A redirect counts as a failed delivery (vod-protocol 1.1), and is no error in our shape.
    app.router.redirect_slashes = False
    return app
