"""Parse single JSON values, in every form in which VOD sends them (vod-protocol 7).

Each function returns a value of our type, or None if VOD sent nothing (absent, null, empty, white space). It raises UnreadableError
for anything else. All of them expect values that `urls.clean` returned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import msgspec

from worker.core.urls import clean


class UnreadableError(ValueError):
    """The value has none of the known forms."""


_decode = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def text(value: object) -> str | None:
    """Return a text without surrounding white space. A number or boolean becomes its JSON text."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise UnreadableError


def text_or_object(value: object) -> str | None:
    """Return a text. An object becomes its compact JSON text with sorted keys, because UserData occurs in both forms."""
    return _encode_sorted(value).decode() if isinstance(value, dict) else text(value)


# Numbers

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")

#: The longest text that is converted to a number, in characters. The bound keeps the arithmetic cheap.
_MAX_NUMBER_LENGTH = 100

#: Precise enough to round only once. Our own context does not depend on the caller's.
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)

_SIX_PLACES = Decimal("0.000001")
_DECIMAL_LIMIT = 10**12  # absolute values have to be below this, to fit into the columns
_ZERO = Decimal("0.000000")


def _number(written: str) -> Decimal:
    if len(written) > _MAX_NUMBER_LENGTH or not _NUMBER.fullmatch(written):
        raise UnreadableError
    return Decimal(written)


def _exact(value: object) -> Decimal | None:
    if isinstance(value, str):
        written = value.strip()
        return _number(written) if written else None
    if value is None:
        return None
    if isinstance(value, bool):
        raise UnreadableError
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float) and math.isfinite(value):
        # VOD wrote the shortest text that means this float.
        return Decimal(repr(value))
    raise UnreadableError


def _six_places(number: Decimal) -> Decimal:
    if not -_DECIMAL_LIMIT < number < _DECIMAL_LIMIT:
        raise UnreadableError
    rounded = number.quantize(_SIX_PLACES, context=_CONTEXT)
    if not -_DECIMAL_LIMIT < rounded < _DECIMAL_LIMIT:
        raise UnreadableError
    # "-0.0" becomes the same zero as "0".
    return rounded or _ZERO


def decimal(value: object) -> Decimal | None:
    """Return a number below 10^12 with six places, rounded half to even (vod-protocol 7.1, 7.5, 7.6, 7.8)."""
    number = _exact(value)
    return None if number is None else _six_places(number)


def frame_rate(value: object) -> Decimal | None:
    """Return a decimal, also from a fraction such as "30000/1001". "0/0" means unknown and is None (vod-protocol 7.7)."""
    if not isinstance(value, str) or "/" not in value:
        return decimal(value)
    numerator, denominator = (_number(part.strip()) for part in value.split("/", 1))
    if denominator:
        return _six_places(_CONTEXT.divide(numerator, denominator))
    if numerator:
        raise UnreadableError
    return None


def _integer(bits: int) -> Callable[[object], int | None]:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def parse(value: object) -> int | None:
        """Return a whole number that fits its column, also from 44100.0, "44100" or "44100.0" (vod-protocol 7.1, 7.25, 7.26)."""
        if type(value) is int:
            number = value
        else:
            exact = _exact(value)
            if exact is None:
                return None
            number = int(exact)
            if number != exact:
                raise UnreadableError
        if not lowest <= number <= highest:
            raise UnreadableError
        return number

    return parse


integer32 = _integer(32)
integer64 = _integer(64)

_BOOLEANS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def boolean(value: object) -> bool | None:
    """Return a boolean, also from 0 and 1, and from the text of any of them (vod-protocol 7.23)."""
    written = text(value)
    if written is None:
        return None
    if (parsed := _BOOLEANS.get(written.lower())) is None:
        raise UnreadableError
    return parsed


# Times

# AI events have a colon before the fraction: 16:00:01:540Z (vod-protocol 2.1).
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:[.,:]([0-9]{1,9}))?(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))?"
)

_FIRST_YEAR = 1000  # the first year that MySQL's DATETIME can represent


def utc_time(value: object) -> datetime | None:
    """Return an aware UTC time of the years 1000 to 9999.

    A time without an offset is UTC, as VOD documents for all its times (vod-protocol 7.30).
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise UnreadableError
    written = value.strip()
    if not written:
        return None
    match = _TIME.fullmatch(written)
    if match is None:
        raise UnreadableError
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    try:
        time = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, UTC)
        if sign is not None:
            offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
            time = time.replace(tzinfo=timezone(-offset if sign == "-" else offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableError from None
    if time.year < _FIRST_YEAR:
        raise UnreadableError
    return time


def start_offset(value: object) -> Decimal | None:
    """Return an offset in seconds; None if the value is a date, which `start_date` returns (vod-protocol 7.5)."""
    try:
        return decimal(value)
    except UnreadableError:
        utc_time(value)
        return None


def start_date(value: object) -> datetime | None:
    """Return a UTC time; None if the value is not a date, which `start_offset` reads."""
    try:
        return utc_time(value)
    except UnreadableError:
        return None


# Lists

#: A list can contain a list as JSON text, which can contain a list again. VOD does not go deeper than this.
_MAX_LIST_LEVELS = 4


def tags(value: object) -> tuple[str, ...] | None:
    """Return the parts of a comma list that are not empty (vod-protocol 7.24). A list of such texts is accepted as well."""
    elements = value if isinstance(value, list) else [value]
    joined = ",".join(written for written in map(text, elements) if written is not None)
    return tuple(part.strip() for part in joined.split(",") if part.strip()) or None


def text_list(value: object, *, wrapper: str | None = None, commas: bool = False) -> tuple[tuple[str, ...] | None, bool]:
    """Return the texts of a list, and whether all of it could be read. Never raises (vod-protocol 7.3, 7.4).

    The list can be an object with the list under `wrapper`, JSON text, or a single text. The elements of JSON text inside a list
    become elements of the list; text that is not valid JSON is kept as it is. With `commas`, a text without "://" is a comma list.
    The texts are None if VOD sent nothing.
    """
    if isinstance(value, dict) and wrapper in value:
        value = value[wrapper]
    collected: list[str] = []
    is_complete = _collect(value, collected, wrapper, commas, _MAX_LIST_LEVELS)
    is_empty = value is None or (isinstance(value, str) and not value.strip())
    return (None if is_empty or (not collected and not is_complete) else tuple(collected)), is_complete


def _collect(value: Any, collected: list[str], wrapper: str | None, commas: bool, levels: int) -> bool:
    """Append the texts in `value` to `collected`. Return whether all of `value` could be read."""
    if isinstance(value, dict):
        return wrapper in value and levels > 0 and _collect(value[wrapper], collected, wrapper, commas, levels - 1)
    if isinstance(value, list):
        is_complete = levels > 0
        for inner in value if is_complete else ():
            is_complete = _collect(inner, collected, wrapper, commas, levels - 1) and is_complete
        return is_complete
    try:
        written = text(value)
    except UnreadableError:
        return False
    if written is None:
        return True
    inner = _json_inside(written) if levels > 0 and written[0] in "[{" else None
    if isinstance(inner, list) or (isinstance(inner, dict) and wrapper in inner):
        return _collect(inner, collected, wrapper, commas, levels - 1)
    if commas and "://" not in written:
        parts = (part.strip(" \t\r\n\"'") for part in written.strip("[]").split(","))
        collected.extend(part for part in parts if part)
    else:
        collected.append(written)
    return True


def _json_inside(written: str) -> Any:
    try:
        return clean(_decode(written))
    except (ValueError, RecursionError):
        return None
