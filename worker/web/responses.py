"""Build JSON responses. Every error has the members `error` (a sentence with the next step) and `reason` (a word)."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_encoder = msgspec.json.Encoder(decimal_format="number")


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `content` as JSON. `Any`: msgspec encodes dataclasses, datetimes and decimals as well."""
    return Response(_encoder.encode(content), status_code=status, media_type="application/json", headers=headers)


def error(status: int, sentence: str, reason: str, headers: dict[str, str] | None = None) -> Response:
    return json({"error": sentence, "reason": reason}, status, headers)


async def routing_error(_request: Request, exc: Exception) -> Response:
    """Return Starlette's own errors (404, 405) in our format."""
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    headers = dict(exc.headers or {}) if isinstance(exc, HTTPException) else None
    if status == 405:
        return error(405, "this path does not accept this method; send callbacks with POST", "method", headers)
    return error(
        status, "this path does not exist; VOD's callbacks are sent to POST /callbacks or /callbacks/{source}", "path", headers
    )


async def unexpected_error(_request: Request, _exc: Exception) -> Response:
    """Return 503 for an exception that no code handled. Starlette logs it, and the sender tries again."""
    return error(503, "vodsync failed to handle the request; its log has the reason", "fault", {"Retry-After": "1"})
