"""Create an ASGI application when its server starts, not when its module is imported."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from worker import runtime
from worker.core.errors import VodsyncError


class LazyApplication:
    """An ASGI application that `create` returns when it is needed.

    A module can define one at import without a side effect: no settings are read and no database is opened. `create` is called at
    the server's lifespan startup, or at the first request of a server without lifespan events.

    If `create` raises VodsyncError, its sentence is printed to stderr and the start fails. uvicorn then exits with code 3. A server
    without lifespan events is ended with SystemExit(3).
    """

    def __init__(self, create: Callable[[], ASGIApp]) -> None:
        self._create = create
        self._application: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(scope, receive, send)
            return
        if self._application is None:
            try:
                self._application = self._create()
            except VodsyncError as error:
                raise runtime.refusal(error) from None
        await self._application(scope, receive, send)

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._application = self._create()
        except VodsyncError as error:
            runtime.refusal(error)
            await _fail_startup(receive, send, "")
            return
        except Exception:
            # An error that is only raised would make uvicorn assume that we do not support lifespan events, and serve.
            await _fail_startup(receive, send, traceback.format_exc())
            raise
        try:
            await self._application(scope, receive, send)
        finally:
            self._application = None


async def _fail_startup(receive: Receive, send: Send, message: str) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": message})
