"""JSON that is sent although it is none: what a strict parser refuses costs a value, not the document."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

#: Python refuses to convert more than 4,300 digits, for the time it takes.
_DIGITS = 1000


def loads(text: str, *, constant: Callable[[str], Any], strict: bool = True) -> Any:
    """The value of `text`. Numbers that no number type holds stay texts; `constant` decides about NaN, `strict` refuses
    control characters inside texts.

    Raises ValueError or RecursionError where it is not JSON after all.
    """
    return json.loads(
        text.removeprefix("\ufeff"), strict=strict, parse_constant=constant, parse_float=_float_or_text, parse_int=_int_or_text
    )


def _float_or_text(written: str) -> float | str:
    number = float(written)
    return number if math.isfinite(number) else written


def _int_or_text(written: str) -> int | str:
    return int(written) if len(written) <= _DIGITS else written
