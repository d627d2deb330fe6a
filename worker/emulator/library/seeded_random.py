"""Chance that can be repeated: the same origin always rolls the same numbers, on every machine and Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

#: A chance is decided in steps of one in so many.
SCALE = 1_000_000

_BLOCK = 512


class SeededRandom:
    """Numbers drawn from the digest of `origin`, for instance a seed, an index and a word for what is being decided."""

    __slots__ = ("_at", "_blocks", "_origin", "_stream")

    def __init__(self, *origin: int | str) -> None:
        self._origin = ":".join(map(str, origin)).encode()
        self._blocks = 0
        self._at = _BLOCK
        self._stream = b""

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1; `limit` is at most 2^32."""
        at = self._at
        if at == _BLOCK:
            self._stream = hashlib.shake_128(b"%d:%b" % (self._blocks, self._origin)).digest(_BLOCK)
            self._blocks += 1
            at = 0
        self._at = at + 4
        return int.from_bytes(self._stream[at : at + 4], "big") * limit >> 32

    def between(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, share: float) -> bool:
        """True in `share` of all cases; 0.1 is one in ten."""
        return self.below(SCALE) < share * SCALE

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`; name an option twice to make it twice as likely."""
        return options[self.below(len(options))]

    def hex(self, digits: int) -> str:
        """Lower-case hexadecimal digits; `digits` is a multiple of eight."""
        end = self._at + digits // 2
        if end <= _BLOCK:
            at, self._at = self._at, end
            return self._stream[at:end].hex()
        return "".join(f"{self.below(1 << 32):08x}" for _ in range(digits // 8))


def roll(limit: int, *origin: int | str) -> int:
    """The first number below `limit` that Dice(*origin) would roll, for half the price."""
    digest = hashlib.shake_128(("0:" + ":".join(map(str, origin))).encode()).digest(4)
    return int.from_bytes(digest, "big") * limit >> 32
