"""The HTTP side. `worker.web:app` runs under any ASGI server; `vodsync serve` uses uvicorn."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Built when a server asks for it, not when a test imports a neighbour.
    if name == "app":
        from worker.web.application import create

        return create()
    raise AttributeError(name)
