"""The token that carries a walk through a listing on: 32 characters that need no memory on our side."""

from __future__ import annotations

import hashlib
import re

from worker.emulator.api.api_errors import ApiError

_TOKEN = re.compile(r"[0-9a-f]{32}")
_CHECK_BYTES = 6


class Scroll:
    """Makes and reads the tokens of one seed; they expire `lifetime` seconds after they were handed out."""

    def __init__(self, seed: int, lifetime: float) -> None:
        self._key = hashlib.blake2b(f"scroll:{seed}".encode(), digest_size=32).digest()
        self._lifetime = lifetime

    def token(self, walk: str, reached: int, now: float) -> str:
        """Goes with an answer at `now` (unix seconds) that reached row `reached` of the listing that `walk` describes."""
        content = int(now * 1000).to_bytes(6, "big") + reached.to_bytes(4, "big")
        check = self._digest(walk.encode() + content, _CHECK_BYTES)
        mask = self._digest(check, len(content))
        return check.hex() + bytes(left ^ right for left, right in zip(content, mask, strict=True)).hex()

    def reached(self, token: str, walk: str, now: float) -> int:
        """The rows that had been answered when the token was handed out.

        Raises Refusal: InvalidScrollToken.Expired, or InvalidParameter where it belongs to another listing or to none.
        """
        if _TOKEN.fullmatch(token) is None:
            raise _foreign()
        check, masked = bytes.fromhex(token[: 2 * _CHECK_BYTES]), bytes.fromhex(token[2 * _CHECK_BYTES :])
        content = bytes(left ^ right for left, right in zip(masked, self._digest(check, len(masked)), strict=True))
        if self._digest(walk.encode() + content, _CHECK_BYTES) != check:
            raise _foreign()
        if now - int.from_bytes(content[:6], "big") / 1000 > self._lifetime:
            raise ApiError("InvalidScrollToken.Expired", 400, "The specified ScrollToken has expired.")
        return int.from_bytes(content[6:], "big")

    def _digest(self, content: bytes, size: int) -> bytes:
        return hashlib.blake2b(content, key=self._key, digest_size=size).digest()


def _foreign() -> ApiError:
    return ApiError("InvalidParameter", 400, "The specified ScrollToken does not belong to this search.")
