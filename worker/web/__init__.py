"""The receiver as an ASGI application: `worker.web:app`, for any ASGI server. `vodsync serve` runs it under uvicorn."""

from __future__ import annotations

from starlette.types import ASGIApp

from worker.asgi import LazyApplication


def _create() -> ASGIApp:
    # Imported here because it imports the Celery app, which reads the settings.
    from worker.web.application import create

    return create()


app = LazyApplication(_create)
