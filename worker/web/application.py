"""Create the receiver's application: its paths, its parts, and what happens when it starts and stops."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from worker import logs, runtime
from worker.queue.wakeups import wakeup_sender
from worker.store.inbox.notifications import Delivery
from worker.store.write_check import check_write
from worker.sync.receive import NotificationWriter
from worker.web import responses
from worker.web.group_commit import GroupCommit
from worker.web.health import Health
from worker.web.receiver import Receiver
from worker.web.spool_drainer import SpoolDrainer
from worker.web.write_state import WriteState

log = logs.get(__name__)

#: After which the event loop and a thread that commits hand over to each other. Python's default is 5 ms.
THREAD_SWITCH_INTERVAL = 0.0003  # seconds


class Application(Starlette):
    """Passes POST /callbacks directly to the receiver. Starlette's middleware and routing would cost as much as the receiver."""

    def __init__(self, receiver: ASGIApp, **options: Any) -> None:
        super().__init__(**options)
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/callbacks" and scope["method"] == "POST":
            await self._receiver(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create() -> Starlette:
    """Return the receiver's application for this process's settings.

    Raises VodsyncError if a setting is invalid or unsafe, or if the database's schema is stale. If the database server is down, the
    receiver starts all the same, because the spool takes the notifications.
    """
    current = runtime.current()
    current.require_callbacks()
    database_is_down = not current.require_schema(waiting=False)
    wakeups = wakeup_sender()

    writer = NotificationWriter(current.store, current.refused, now=current.store.now)
    drainer = SpoolDrainer(current.store, current.spool, writer.write, after_commit=wakeups.send) if current.spool else None
    write_state = WriteState(lambda: check_write(current.store, now=current.store.now()))
    group_commit: GroupCommit[Delivery] = GroupCommit(
        writer.write, after_commit=wakeups.send, writers=2 if current.spool else 1, fallback=drainer, state=write_state
    )
    receiver = Receiver(
        current.sources, group_commit, now=runtime.machine_time, clock_ahead=lambda: current.store.clock.machine_ahead
    )
    health = Health(
        current.store,
        current.spool,
        current.refused,
        write_state,
        sources=current.sources,
        database_error=lambda: drainer.error if drainer else None,
        broker_error=lambda: wakeups.error,
        callback_problems=lambda: receiver.problems,
        now=current.store.now,
        change_feed=current.settings.changes == "on",
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        unsigned = [name for name, source in current.sources.items() if source.callback_unsigned == "accept"]
        if unsigned:
            log.warning("unsigned callbacks are accepted from any sender", sources=",".join(unsigned))
        # Objects that exist now stay until the end. Otherwise each full collection stops all requests for about 60 ms.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(THREAD_SWITCH_INTERVAL)
        if drainer:
            drainer.start(database_is_down=database_is_down)
        log.info("receiver started", sources=",".join(current.sources))
        yield
        await group_commit.close()
        if drainer:
            await asyncio.to_thread(drainer.close)
        wakeups.close()
        wakeup_sender.cache_clear()
        health.close()
        current.refused.close()
        current.store.close()
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
        exception_handlers={HTTPException: receiver.routing_error, Exception: responses.unexpected_error},
        lifespan=lifespan,
    )
    # VOD counts a redirect as a failed delivery (vod-protocol 1.1), and its body is not our JSON error.
    app.router.redirect_slashes = False
    return app
