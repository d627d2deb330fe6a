"""Create an ASGI application when its server starts, not when its module is imported."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from worker import logs, runtime
from worker.core.errors import VodsyncError
from worker.outage import Outage

log = logs.get(__name__)


class LazyApplication:
    """An ASGI application that `create` returns when it is needed.

    A module can define one at import without a side effect: no settings are read and no database is opened. `create` is called at
    the server's lifespan startup, or at the first request of a server without lifespan events.

    If `create` raises VodsyncError, its sentence is printed to stderr and the start fails. uvicorn then exits with code 3. A server
    without lifespan events cannot be stopped: requests are answered with 503, and each of them tries again.
    """

    def __init__(self, create: Callable[[], ASGIApp]) -> None:
        self._create = create
        self._application: ASGIApp | None = None
        self._outage = Outage()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(scope, receive, send)
        elif application := self._application or self._try_create():
            await application(scope, receive, send)
        elif scope["type"] == "http":
            content = {"error": "vodsync could not start; its log has the reason", "reason": "configuration"}
            await JSONResponse(content, 503, {"Retry-After": "1"})(scope, receive, send)

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self._try_create()
        if application is None:
            # Only this message stops uvicorn: after an exception it assumes that we do not support lifespan events, and serves.
            await receive()
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        try:
            await application(scope, receive, send)
        finally:
            self._application = None

    def _try_create(self) -> ASGIApp | None:
        """Return the new application, or None if it could not be created and the reason was printed or logged."""
        try:
            self._application = self._create()
        except VodsyncError as error:
            if self._outage.failed(str(error), kind=str(error)):
                runtime.refusal(error)
        except Exception as error:
            if self._outage.failed(str(error), kind=type(error).__name__):
                log.error("application could not be created", exc_info=True)
        return self._application
