"""Compute pauses between retries that grow with each failure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

#: Values for `Backoff.jitter`: the part of each pause that is random.
NO_JITTER = 0.0
HALF_JITTER = 0.5
FULL_JITTER = 1.0

#: Further failures do not make the pause longer. Keeps `factor ** failures` within the range of a float.
_MAX_FAILURES = 64


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses of `first`, `first * factor`, `first * factor**2` … and never more than `longest`.

    With jitter, workers that failed together do not come back together. `random` returns a number from 0 to 1.
    """

    first: timedelta
    longest: timedelta
    factor: float = 2.0
    jitter: float = NO_JITTER
    random: Callable[[], float] = random.random

    def delay(self, failures: int) -> timedelta:
        """Return the pause after `failures` failures in a row, with jitter. 0 counts like 1."""
        return self.jittered(self.upper_limit(failures))

    def upper_limit(self, failures: int) -> timedelta:
        """Return the same pause before jitter."""
        growth = self.factor ** min(max(failures - 1, 0), _MAX_FAILURES)
        if self.first > self.longest / growth:
            # The product may not even fit into a timedelta.
            return self.longest
        return min(self.longest, self.first * growth)

    def jittered(self, pause: timedelta) -> timedelta:
        """Return `pause` shortened at random, by at most the share `jitter`. Half jitter leaves at least half of it."""
        return pause * (1 - self.jitter + self.jitter * self.random())


class FailureCounter:
    """Counts the failures of one thing in a row, and returns the pause after each. Not safe for several threads."""

    def __init__(self, backoff: Backoff) -> None:
        self.failures = 0
        self._backoff = backoff

    def failed(self) -> timedelta:
        """Count one more failure and return how long to wait before the next try."""
        self.failures += 1
        return self._backoff.delay(self.failures)

    def reset(self) -> None:
        """Start again from the first pause, after a success."""
        self.failures = 0
