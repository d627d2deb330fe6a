"""How often the account may call: a window of one second that slides."""

from __future__ import annotations

from collections import deque


class RateLimiter:
    """At most `per_second` calls of one operation within any second; 0 sets no limit. Refused calls do not count."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._taken: deque[float] = deque()

    def take(self, now: float) -> bool:
        """True where the call may go on. `now` is in seconds, on any clock that does not jump."""
        if not self.per_second:
            return True
        while self._taken and self._taken[0] <= now - 1:
            self._taken.popleft()
        if len(self._taken) >= self.per_second:
            return False
        self._taken.append(now)
        return True
