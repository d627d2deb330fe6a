"""Draw random numbers that depend only on an origin, so that they are the same on every machine and Python version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

#: Probabilities are decided in steps of one in this number.
PROBABILITY_STEPS = 1_000_000

_BLOCK_SIZE = 512  # bytes


class SeededRandom:
    """Random numbers from the digest of `origin`, for instance a seed, an index and a word for what is being decided.

    The media assets of a seed depend on the order of the draws. A change of that order changes every asset.
    """

    __slots__ = ("_block", "_block_count", "_origin", "_position")

    def __init__(self, *origin: int | str) -> None:
        self._origin = ":".join(map(str, origin)).encode()
        self._block_count = 0
        self._position = _BLOCK_SIZE
        self._block = b""

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1; `limit` is at most 2^32."""
        position = self._position
        if position == _BLOCK_SIZE:
            self._block = hashlib.shake_128(b"%d:%b" % (self._block_count, self._origin)).digest(_BLOCK_SIZE)
            self._block_count += 1
            position = 0
        self._position = position + 4
        return int.from_bytes(self._block[position : position + 4], "big") * limit >> 32

    def between(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """Return True with this probability; 0.1 is one case in ten."""
        return self.below(PROBABILITY_STEPS) < probability * PROBABILITY_STEPS

    def pick(self, options: Sequence[T]) -> T:
        """Return one of `options`; an option that is listed twice is twice as likely."""
        return options[self.below(len(options))]

    def hex(self, digits: int) -> str:
        """Return lower-case hexadecimal digits; `digits` is a multiple of eight."""
        end = self._position + digits // 2
        if end <= _BLOCK_SIZE:
            start, self._position = self._position, end
            return self._block[start:end].hex()
        return "".join(f"{self.below(1 << 32):08x}" for _ in range(digits // 8))


def draw(limit: int, *origin: int | str) -> int:
    """Return the first number below `limit` that SeededRandom(*origin) would draw, in half the time."""
    digest = hashlib.shake_128(("0:" + ":".join(map(str, origin))).encode()).digest(4)
    return int.from_bytes(digest, "big") * limit >> 32
