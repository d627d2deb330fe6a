"""What has been asked of the API so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any


class CallStats:
    """Counters of one operation. Every call that names it counts, also those that were refused."""

    def __init__(self) -> None:
        self.calls = 0
        self.media_ids = 0
        self.throttled = 0
        self.errors = 0
        self.largest_batch = 0
        self.repeated_in_call = 0
        self.busiest_second = 0
        self._last_second: deque[float] = deque()

    def arrived(self, ids: Sequence[str], now: float) -> None:
        """Count one call for `ids` (media and reference ids together); `now` is in seconds."""
        self.calls += 1
        self.media_ids += len(ids)
        self.largest_batch = max(self.largest_batch, len(ids))
        self.repeated_in_call += len(ids) - len(set(ids))
        while self._last_second and self._last_second[0] <= now - 1:
            self._last_second.popleft()
        self._last_second.append(now)
        self.busiest_second = max(self.busiest_second, len(self._last_second))

    def refused(self, code: str) -> None:
        if code.startswith("Throttling"):
            self.throttled += 1
        else:
            self.errors += 1

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}
