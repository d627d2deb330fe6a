"""The emulator as an ASGI application."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.routing import Route

from worker.emulator.server.account import Account
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.server.control import Control, ControlError, control_error_response


def make_app(config: EmulatorConfig) -> Starlette:
    """Return the application: the API at `/`, the queue below `/queues`, the control API below `/emulator`.

    Notifications are sent as long as the lifespan of the application lasts. The account is in `app.state.account`.
    """
    account = Account(config)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # Exclude all present objects from garbage collection: a full collection delays calls, and the call counters would show it.
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
        Route("/", account.gateway, methods=["GET", "POST"]),
        Route("/queues/{queue}/messages", account.smq_api, methods=["GET", "POST", "PUT", "DELETE"]),
        *Control(account).routes(),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={ControlError: control_error_response})
    app.state.account = account
    return app
