"""The receiver as an ASGI application: `worker.web:app`, for any ASGI server. `vodsync serve` runs it under uvicorn."""

from __future__ import annotations

from starlette.types import ASGIApp

from worker import runtime
from worker.asgi import LazyApplication


def _create() -> ASGIApp:
    # They raise ConfigurationError. The import below would end the process, because it creates the Celery app.
    runtime.current().require_broker()
    runtime.current().require_spool()
    from worker.web.application import create

    return create()


app = LazyApplication(_create)
