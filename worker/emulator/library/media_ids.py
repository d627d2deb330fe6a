"""Convert an index to a media id or reference id and back, without a table.

VOD's media ids are 32 hexadecimal digits without a visible structure. The emulator's look the same and contain the index, so that a
library of a million assets needs no memory. A small Feistel cipher over 128 bits, keyed by the seed, makes them. Half of the plain
text is a fixed word, by which foreign ids are recognised.
"""

from __future__ import annotations

import hashlib
import re

_CHECK_WORD = 0x766F642D6D656469
_ROUNDS = (b"1", b"2", b"3", b"4")
_MEDIA_ID = re.compile(r"[0-9a-f]{32}")
#: Reference ids are the customer's own: 6 to 64 characters of [A-Za-z0-9_-] (vod-protocol 7.18). Three formats alternate.
_REFERENCE_ID_FORMATS = ("ref-{index:06d}-{check}", "Asset_{index}_{check}", "SKU-{index:d}-eu_de-{check}")
_REFERENCE_ID = re.compile(r"(?:ref-|Asset_|SKU-)(\d{1,18})(?:-eu_de)?[-_][0-9a-f]{4}")


class MediaIds:
    """The ids of one seed, in both directions."""

    def __init__(self, seed: int) -> None:
        self._key = hashlib.blake2b(str(seed).encode(), digest_size=32).digest()

    def media_id(self, index: int) -> str:
        """Return the media id of an index from 0 to 2^64 - 1."""
        left, right = index, _CHECK_WORD
        for number in _ROUNDS:
            left, right = right, left ^ self._scramble(number, right)
        return f"{left:016x}{right:016x}"

    def index(self, media_id: str) -> int | None:
        """Return the index inside a media id, or None if this seed did not make the id."""
        if _MEDIA_ID.fullmatch(media_id) is None:
            return None
        left, right = int(media_id[:16], 16), int(media_id[16:], 16)
        for number in reversed(_ROUNDS):
            left, right = right ^ self._scramble(number, left), left
        return left if right == _CHECK_WORD else None

    def reference_id(self, index: int) -> str | None:
        """Return the reference id of an index; only every third asset has one."""
        if index % 3:
            return None
        check = f"{self._scramble(b'r', index) & 0xFFFF:04x}"
        return _REFERENCE_ID_FORMATS[index // 3 % 3].format(index=index, check=check)

    def index_of_reference_id(self, reference_id: str) -> int | None:
        """Return the index inside a reference id, or None if this seed did not make the id."""
        match = _REFERENCE_ID.fullmatch(reference_id)
        if match is None:
            return None
        index = int(match[1])
        return index if self.reference_id(index) == reference_id else None

    def _scramble(self, number: bytes, half: int) -> int:
        digest = hashlib.blake2b(number + half.to_bytes(8, "big"), key=self._key, digest_size=8)
        return int.from_bytes(digest.digest(), "big")
