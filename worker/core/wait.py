"""The result of an operation that cannot be done yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing was done; try again after `duration`.

    A function that finds nothing to do at all returns None instead.
    """

    duration: timedelta
