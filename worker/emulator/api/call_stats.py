"""Count the calls to one operation of the API."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class CallStats:
    """Counters of one operation. Every call that names the operation is counted, also one that is refused."""

    def __init__(self) -> None:
        self._last_second: deque[float] = deque()
        self.reset()

    def reset(self) -> None:
        """Set all counters to 0."""
        self.calls = 0
        self.media_ids = 0
        self.throttled = 0
        self.errors = 0
        self.largest_batch = 0
        self.repeated_in_call = 0
        self.busiest_second = 0
        self._last_second.clear()

    def record_call(self, ids: Sequence[str], now: float) -> None:
        """Count one call for `ids` (media and reference ids together); `now` is in seconds, from any monotonic clock."""
        self.calls += 1
        self.media_ids += len(ids)
        self.largest_batch = max(self.largest_batch, len(ids))
        self.repeated_in_call += len(ids) - len(set(ids))
        while self._last_second and self._last_second[0] <= now - 1:
            self._last_second.popleft()
        self._last_second.append(now)
        self.busiest_second = max(self.busiest_second, len(self._last_second))

    def record_error(self, code: str) -> None:
        """Count a call that was answered with an error."""
        if code.startswith("Throttling"):
            self.throttled += 1
        else:
            self.errors += 1

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}
