"""Parse JSON that a strict parser refuses, so that one bad value does not make the whole document unreadable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

# Python refuses to convert more than 4,300 digits because of the time it takes.
_MAX_DIGITS = 1000


def loads(text: str, *, constant: Callable[[str], Any], strict: bool = True) -> Any:
    """Return the value of the JSON document `text`. A byte order mark at its beginning is skipped.

    A number that no number type can represent stays the text that was sent. `constant` is called with "NaN", "Infinity" or
    "-Infinity" and returns the value for it. With `strict`, control characters inside strings are refused.

    Raises ValueError or RecursionError if `text` is not JSON.
    """
    return json.loads(
        text.removeprefix("\ufeff"), strict=strict, parse_constant=constant, parse_float=_float_or_text, parse_int=_int_or_text
    )


def _float_or_text(written: str) -> float | str:
    number = float(written)
    return number if math.isfinite(number) else written


def _int_or_text(written: str) -> int | str:
    return int(written) if len(written) <= _MAX_DIGITS else written
