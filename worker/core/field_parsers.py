"""What does one JSON value of VOD say, whichever way it is written?

Each reader gives a value of our type, None where VOD says nothing (absent, null, empty, white space), or raises Unreadable. They
expect values that `urls.clean` has gone over. The rules are those of vod-protocol 7.
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
    """The value is of no form that we know."""


_decode = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def text(value: object) -> str | None:
    """The text without surrounding white space; numbers and booleans as JSON writes them."""
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
    """The text; an object as its compact JSON text with sorted keys (UserData comes in both forms)."""
    return _encode_sorted(value).decode() if isinstance(value, dict) else text(value)


# Numbers

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")

#: Large enough to round once only, and independent of the caller's context.
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)

_PLACES = Decimal("0.000001")
_BEYOND = 10**12
_ZERO = Decimal("0.000000")


#: No number of VOD's is longer; the bound keeps the arithmetic cheap.
_LONGEST = 100


def _number(written: str) -> Decimal:
    if len(written) > _LONGEST or not _NUMBER.fullmatch(written):
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
        # The shortest text that means this float is what VOD wrote.
        return Decimal(repr(value))
    raise UnreadableError


def _six_places(number: Decimal) -> Decimal:
    if not -_BEYOND < number < _BEYOND:
        raise UnreadableError
    rounded = number.quantize(_PLACES, context=_CONTEXT)
    if not -_BEYOND < rounded < _BEYOND:
        raise UnreadableError
    # There is one zero only, also for "-0.0".
    return rounded or _ZERO


def decimal(value: object) -> Decimal | None:
    """A number with six places, half to even, below 10^12 (vod-protocol 7.1, 7.5, 7.6, 7.8)."""
    number = _exact(value)
    return None if number is None else _six_places(number)


def rate(value: object) -> Decimal | None:
    """A decimal that may be a fraction: "30000/1001"; "0/0" is how ffmpeg says unknown (vod-protocol 7.7)."""
    if not isinstance(value, str) or "/" not in value:
        return decimal(value)
    above, below = (_number(part.strip()) for part in value.split("/", 1))
    if below:
        return _six_places(_CONTEXT.divide(above, below))
    if above:
        raise UnreadableError
    return None


def _integer(bits: int) -> Callable[[object], int | None]:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def read(value: object) -> int | None:
        """A whole number that fits, also as 44100.0, "44100" or "44100.0" (vod-protocol 7.1, 7.25, 7.26)."""
        if type(value) is int:
            number = value
        else:
            exact = _exact(value)
            if exact is None:
                return None
            # The range comes first: "1e999" is cheap to compare and expensive to write out.
            if not lowest <= exact <= highest:
                raise UnreadableError
            number = int(exact)
            if number != exact:
                raise UnreadableError
        if not lowest <= number <= highest:
            raise UnreadableError
        return number

    return read


integer32 = _integer(32)
integer64 = _integer(64)

_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def flag(value: object) -> bool | None:
    """A boolean, 0 or 1, or one of them as text (vod-protocol 7.23)."""
    written = text(value)
    if written is None:
        return None
    if (said := _FLAGS.get(written.lower())) is None:
        raise UnreadableError
    return said


# Times

# The fraction may follow a colon: VOD's AI events write 16:00:01:540Z (vod-protocol 2.1).
_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:[.,:]([0-9]{1,9}))?(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))?"
)

#: MySQL's DATETIME begins with the year 1000.
_FIRST_YEAR = 1000


def instant(value: object) -> datetime | None:
    """An aware UTC time of the years 1000 to 9999; without an offset it is UTC, as VOD documents all times (vod-protocol 7.30)."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise UnreadableError
    written = value.strip()
    if not written:
        return None
    match = _INSTANT.fullmatch(written)
    if match is None:
        raise UnreadableError
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    try:
        found = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, UTC)
        if sign is not None:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            found = found.replace(tzinfo=timezone(-offset if sign == "-" else offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableError from None
    if found.year < _FIRST_YEAR:
        raise UnreadableError
    return found


# Lists

#: A list may hold a list as JSON text, which may hold a list; nothing real goes deeper.
_LEVELS = 4


def tags(value: object) -> tuple[str, ...] | None:
    """The parts of a comma list that are not empty (vod-protocol 7.24); a list of such texts is taken as well."""
    listed = value if isinstance(value, list) else [value]
    said = ",".join(written for written in map(text, listed) if written is not None)
    return tuple(part.strip() for part in said.split(",") if part.strip()) or None


def texts(value: object, *, wrapper: str | None = None, commas: bool = False) -> tuple[tuple[str, ...] | None, bool]:
    """All texts of a list in any of VOD's shapes, and whether everything in it could be read (vod-protocol 7.3, 7.4).

    The list may be an object that holds it under `wrapper`, JSON text, or a single text; JSON text inside a list is spliced in, and
    stays as it is where it is not valid. With `commas`, a text without a scheme is a comma list. None means that nothing was said.
    """
    if isinstance(value, dict) and wrapper in value:
        value = value[wrapper]
    found: list[str] = []
    whole = _collect(value, found, wrapper, commas, _LEVELS)
    said_nothing = value is None or (isinstance(value, str) and not value.strip())
    return (None if said_nothing or (not found and not whole) else tuple(found)), whole


def _collect(value: Any, found: list[str], wrapper: str | None, commas: bool, levels: int) -> bool:
    if isinstance(value, dict):
        return wrapper in value and levels > 0 and _collect(value[wrapper], found, wrapper, commas, levels - 1)
    if isinstance(value, list):
        whole = levels > 0
        for inner in value if whole else ():
            whole = _collect(inner, found, wrapper, commas, levels - 1) and whole
        return whole
    try:
        written = text(value)
    except UnreadableError:
        return False
    if written is None:
        return True
    inner = _json_inside(written) if levels > 0 and written[0] in "[{" else None
    if isinstance(inner, list) or (isinstance(inner, dict) and wrapper in inner):
        return _collect(inner, found, wrapper, commas, levels - 1)
    if commas and "://" not in written:
        parts = (part.strip(" \t\r\n\"'") for part in written.strip("[]").split(","))
        found.extend(part for part in parts if part)
    else:
        found.append(written)
    return True


def _json_inside(written: str) -> Any:
    try:
        return clean(_decode(written))
    except (ValueError, RecursionError):
        return None
