"""Limit the calls of an account to a number per second."""

from __future__ import annotations

from collections import deque


class RateLimiter:
    """At most `per_second` calls within any second (sliding window); 0 sets no limit. Refused calls do not count."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._accepted: deque[float] = deque()

    def acquire(self, now: float) -> bool:
        """Return True and count the call if it is within the limit; `now` is in seconds, from any monotonic clock."""
        if not self.per_second:
            return True
        while self._accepted and self._accepted[0] <= now - 1:
            self._accepted.popleft()
        if len(self._accepted) >= self.per_second:
            return False
        self._accepted.append(now)
        return True
