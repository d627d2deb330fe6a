"""Format times as VOD does."""

from __future__ import annotations

import time
from functools import lru_cache


@lru_cache(maxsize=1024)
def format_utc(unix_seconds: float) -> str:
    """Return UTC to the second, for instance 2025-11-24T16:00:05Z (vod-protocol 2.1)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_seconds))
