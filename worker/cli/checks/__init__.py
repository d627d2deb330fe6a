"""The checks of `vodsync doctor`, and the type of their results."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    OK = "ok"
    #: It could not be checked, or it works and an operator should look at it.
    UNSURE = "unsure"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `message` describes the state and, unless it is OK, the next step."""

    verdict: Verdict
    message: str
