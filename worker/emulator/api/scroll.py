"""Make and read the tokens that continue a listing: 32 characters that contain the position, so that nothing is stored."""

from __future__ import annotations

import hashlib
import re

from worker.emulator.api.api_errors import ApiError

_TOKEN = re.compile(r"[0-9a-f]{32}")
_CHECK_SIZE = 6  # bytes


class ScrollTokens:
    """The tokens of one seed. A token expires `lifetime` seconds after the answer that contained it."""

    def __init__(self, seed: int, lifetime: float) -> None:
        self._key = hashlib.blake2b(f"scroll:{seed}".encode(), digest_size=32).digest()
        self._lifetime = lifetime

    def make(self, listing_key: str, rows: int, now: float) -> str:
        """Return the token of an answer at `now` (unix seconds) after which `rows` rows of the listing were reached.

        `listing_key` identifies the listing: a token is valid only for the same parameters.
        """
        content = int(now * 1000).to_bytes(6, "big") + rows.to_bytes(4, "big")
        check = self._digest(listing_key.encode() + content, _CHECK_SIZE)
        mask = self._digest(check, len(content))
        return check.hex() + bytes(left ^ right for left, right in zip(content, mask, strict=True)).hex()

    def read(self, token: str, listing_key: str, now: float) -> int:
        """Return the rows that were reached when the token was made.

        Raises ApiError: InvalidScrollToken.Expired, or InvalidParameter if the token is malformed or belongs to another listing.
        """
        if _TOKEN.fullmatch(token) is None:
            raise _invalid_token()
        check, masked = bytes.fromhex(token[: 2 * _CHECK_SIZE]), bytes.fromhex(token[2 * _CHECK_SIZE :])
        content = bytes(left ^ right for left, right in zip(masked, self._digest(check, len(masked)), strict=True))
        if self._digest(listing_key.encode() + content, _CHECK_SIZE) != check:
            raise _invalid_token()
        if now - int.from_bytes(content[:6], "big") / 1000 > self._lifetime:
            raise ApiError("InvalidScrollToken.Expired", 400, "The specified ScrollToken has expired.")
        return int.from_bytes(content[6:], "big")

    def _digest(self, content: bytes, size: int) -> bytes:
        return hashlib.blake2b(content, key=self._key, digest_size=size).digest()


def _invalid_token() -> ApiError:
    return ApiError("InvalidParameter", 400, "The specified ScrollToken does not belong to this search.")
