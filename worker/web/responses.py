"""Every error has the same shape: a sentence with the next step, and one word."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_encoder = msgspec.json.Encoder(decimal_format="number")


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encoder.encode(content), status_code=status, media_type="application/json", headers=headers)


def error(status: int, sentence: str, reason: str, headers: dict[str, str] | None = None) -> Response:
    return json({"error": sentence, "reason": reason}, status, headers)


async def not_routed(_request: Request, fault: Exception) -> Response:
    """Starlette's own refusals (404, 405) in our shape."""
    status = fault.status_code if isinstance(fault, HTTPException) else 500
    headers = dict(fault.headers or {}) if isinstance(fault, HTTPException) else None
    if status == 405:
        return error(405, "this path takes another method; callbacks are sent with POST", "method", headers)
    return error(
        status, "there is nothing at this path; VOD's callbacks go to POST /callbacks or /callbacks/{source}", "path", headers
    )


async def failed(_request: Request, _fault: Exception) -> Response:
    """What we did not foresee: the log has it, the sender should try again."""
    return error(503, "vodsync failed to handle the request; its log says why", "fault", {"Retry-After": "1"})
