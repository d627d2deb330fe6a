"""Which part of a URL is a secret that changes?"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

#: MariaDB refuses JSON of more than 32 levels; half of it is more than any answer of VOD has.
MAX_LEVELS = 16

# Type A of the CDN, and the two signatures of OSS (vod-protocol 7.31).
_NAMES = (
    "auth_key",
    "expires",
    "ossaccesskeyid",
    "signature",
    "security-token",
    "x-oss-additional-headers",
    "x-oss-credential",
    "x-oss-date",
    "x-oss-expires",
    "x-oss-security-token",
    "x-oss-signature",
    "x-oss-signature-version",
)

# A text without any of these has nothing to strip.
_HINTS = ("auth_key", "expires", "keyid", "signature", "token", "x-oss-")

# URLs stand in JSON text too, even in JSON text inside JSON text, where a sign may be escaped: & as \u0026 or \\u0026, and more
# backslashes at each level. A run of them goes whole or not at all: with half of one gone, the rest might not be JSON. Every
# repetition below has a bound or never gives back, so that no text takes more than linear time. A pattern that begins with a set of
# characters lets `re` skip quickly to the next of them.
_ESCAPE = r"\\++"
_SEPARATOR = r"[?&\\](?:(?<=\?)|(?<=&)(?:amp;)?+|(?<=\\)(?<!\\\\)\\*+u00(?:3[fF]|26(?:amp;)?+))"
_AND = rf"(?:&(?:amp;)?+|{_ESCAPE}u0026(?:amp;)?+)"
_EQUALS = rf"(?:=|{_ESCAPE}u003d)"
# A full stop at the end of the URL belongs to the sentence around it.
_VALUE = rf"(?:[a-z0-9_~%+/=*@$-]|[.:;!]++(?=[a-z0-9_~%+/=*@$&#-]|{_ESCAPE}u0026)|{_ESCAPE}(?:/|u00(?:3d|2b|2f|25)))*+"
# Where none of the names can begin, none of them is tried.
_INITIALS = "".join(sorted({name[0] + name[0].upper() for name in _NAMES}))
_SECRET = rf"(?=[{_INITIALS}])(?i:(?:{'|'.join(sorted(_NAMES, key=len, reverse=True))}){_EQUALS}{_VALUE})"
#: A further parameter begins here.
_MORE = r"(?=[A-Za-z0-9_~%+/=*@$.:;!,\[{(-]|[^\x00-\x7f])"

_SIGNATURE = re.compile(
    rf"(?P<separator>{_SEPARATOR}){_AND}{{0,4}}+{_SECRET}(?:{_AND}{{1,4}}+{_SECRET})*+(?:{_AND}{{1,4}}+(?P<more>{_MORE})?)?",
    re.ASCII,
)

#: From here on JSON has floats with an exponent only, and all of them are whole.
_WRITTEN_OUT = 1e16

# What PostgreSQL's jsonb or UTF-8 cannot hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def strip_signature(text: str) -> str:
    """`text` without the query parameters that sign a URL; every other character stays as it is (vod-protocol 7.31).

    The text may be one URL, prose or JSON that holds URLs. A parameter is what follows a `?` or `&`, plain or escaped.
    """
    if "=" not in text and "\\" not in text:
        return text
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    return _SIGNATURE.sub(_kept, text)


def _kept(match: re.Match[str]) -> str:
    # The next parameter takes the place of the first one removed.
    return match["separator"] if match["more"] is not None else ""


def storable(text: str) -> str:
    """`text` with U+FFFD in place of NUL and of halves of surrogate pairs, which not every database takes."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def clean(value: Any) -> Any:
    """A JSON value without URL signatures that every database can keep as JSON; cleaning twice changes nothing.

    Texts and keys are made storable. Numbers without a value (NaN, infinity) become None, integers beyond 64 bits their digits, and
    what lies deeper than MAX_LEVELS its compact JSON text. What is stored comes back as it went, on every database.
    """
    return _clean(value, 1)


def _clean(value: Any, level: int) -> Any:
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, dict):
        if level > MAX_LEVELS:
            return _as_text(value)
        # Nearly everything that an answer consists of is a short text in an object; a call less for each is a third of the time.
        return {
            storable(key): _clean_text(inner) if type(inner) is str else inner if inner is None else _clean(inner, level + 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        if level > MAX_LEVELS:
            return _as_text(value)
        return [_clean(inner, level + 1) for inner in value]
    if isinstance(value, float):
        return _clean_float(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        # Not str(): Python refuses to write out integers of more than 4,300 digits.
        return format(Decimal(value), "f")
    return value


def _clean_text(value: str) -> str:
    if value.isascii() and "=" not in value and "\\" not in value and "\0" not in value:
        return value
    return strip_signature(storable(value))


def _clean_float(value: float) -> float | int | str | None:
    if not math.isfinite(value):
        return None
    if abs(value) >= _WRITTEN_OUT:
        # PostgreSQL keeps 1e16 as the whole number that it is.
        whole: int | str = _clean(int(value), 1)
        return whole
    # Nor does it know a zero below zero.
    return value or 0.0


def _as_text(value: Any) -> str | None:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    except (RecursionError, ValueError):
        return None
    return strip_signature(storable(text))
