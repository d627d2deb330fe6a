"""Let this process read a wrong machine clock. Python imports this module if PYTHONPATH has its folder.

CLOCK_AHEAD is by how many seconds the clock is ahead; negative if it is behind. The monotonic clock stays as it is.
"""

from __future__ import annotations

import os
import time

_AHEAD = int(os.environ["CLOCK_AHEAD"])
_real_time = time.time

time.time = lambda: _real_time() + _AHEAD
