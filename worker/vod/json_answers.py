"""Decode the JSON body of VOD's answers without loss."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from worker.core import lenient_json
from worker.core.errors import VodUnreadableError


def decode(action: str, body: bytes | str) -> dict[str, Any]:
    """Return the JSON object in `body`. A number that a float cannot represent exactly is kept as text.

    `action` is the operation, for the message. Raises VodUnreadableError if `body` is not a JSON object.
    """
    content = body.encode() if isinstance(body, str) else bytes(body)
    try:
        value = _decode_exactly(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # msgspec refuses lone surrogates and other encodings. They make one field unreadable later, but not the whole answer.
        try:
            value = lenient_json.loads(content.decode("utf-8", errors="replace"), constant=str, strict=False)
        except (ValueError, RecursionError):
            raise VodUnreadableError(f"{action} answered with something that is not JSON ({len(content)} bytes)") from None
    if not isinstance(value, dict):
        raise VodUnreadableError(f"{action} answered with JSON that is not an object")
    return value


def _float_or_text(written: str) -> float | str:
    number = float(written)
    try:
        return number if math.isfinite(number) and Decimal(repr(number)) == Decimal(written) else written
    except InvalidOperation:
        # The exponent is too large for Decimal too.
        return written


_decode_exactly = msgspec.json.Decoder(float_hook=_float_or_text).decode
