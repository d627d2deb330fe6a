"""The emulator as an ASGI application."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.routing import Route

from worker.emulator.api.gateway import Gateway
from worker.emulator.library.account import Account
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.server.control import Control, ControlError, explain
from worker.emulator.smq.api import Smq


def make_app(config: EmulatorConfig) -> Starlette:
    """The API at /, the queue at /queues, the control API at /emulator, and notifications while the lifespan lasts.

    `app.state.account` is the rest.
    """
    account = Account(config)

    @asynccontextmanager
    async def notifying(app: Starlette) -> AsyncIterator[None]:
        # What stands here now stays: a full collection would show in when calls seem to arrive.
        gc.collect()
        gc.freeze()
        notifier = asyncio.create_task(account.notifier.run())
        try:
            yield
        finally:
            notifier.cancel()
            with suppress(asyncio.CancelledError):
                await notifier

    routes = [
        Route("/", Gateway(account), methods=["GET", "POST"]),
        Route("/queues/{queue}/messages", Smq(config, account.mailbox, account.mischief), methods=["GET", "POST", "PUT", "DELETE"]),
        *Control(account).routes(),
    ]
    app = Starlette(routes=routes, lifespan=notifying, exception_handlers={ControlError: explain})
    app.state.account = account
    return app
