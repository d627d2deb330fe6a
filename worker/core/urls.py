"""Remove signatures from URLs, and make JSON values storable in every database."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

#: Levels of nesting that are kept. MariaDB refuses JSON with more than 32; VOD's answers have fewer than 16.
MAX_DEPTH = 16

# The parameter of the CDN's signature type A, and those of both signature versions of OSS (vod-protocol 7.31).
_SIGNING_PARAMETERS = (
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

# A text without any of these contains no signing parameter.
_HINTS = ("auth_key", "expires", "keyid", "signature", "token", "x-oss-")

# The pattern also matches inside JSON text, and inside JSON text within JSON text, where characters may be escaped: & as \u0026 or
# \\u0026, with more backslashes at each level. A run of backslashes is removed as a whole or not at all, because the rest might not
# be valid JSON otherwise. Every repetition below has a bound or is possessive, so that the time is linear in the text.
# An alternative that begins with a set of characters lets `re` skip quickly to the next one of them.
_ESCAPE = r"\\++"
_SEPARATOR = r"[?&\\](?:(?<=\?)|(?<=&)(?:amp;)?+|(?<=\\)(?<!\\\\)\\*+u00(?:3[fF]|26(?:amp;)?+))"
_AND = rf"(?:&(?:amp;)?+|{_ESCAPE}u0026(?:amp;)?+)"
_EQUALS = rf"(?:=|{_ESCAPE}u003d)"
# A full stop at the end of a URL belongs to the sentence around it.
_VALUE = rf"(?:[a-z0-9_~%+/=*@$-]|[.:;!]++(?=[a-z0-9_~%+/=*@$&#-]|{_ESCAPE}u0026)|{_ESCAPE}(?:/|u00(?:3d|2b|2f|25)))*+"
# The names are tried only at a character with which one of them begins.
_INITIALS = "".join(sorted({name[0] + name[0].upper() for name in _SIGNING_PARAMETERS}))
_PARAMETER = rf"(?=[{_INITIALS}])(?i:(?:{'|'.join(sorted(_SIGNING_PARAMETERS, key=len, reverse=True))}){_EQUALS}{_VALUE})"
# The beginning of another parameter.
_NEXT = r"(?=[A-Za-z0-9_~%+/=*@$.:;!,\[{(-]|[^\x00-\x7f])"

_SIGNATURE = re.compile(
    rf"(?P<separator>{_SEPARATOR}){_AND}{{0,4}}+{_PARAMETER}(?:{_AND}{{1,4}}+{_PARAMETER})*+(?:{_AND}{{1,4}}+(?P<next>{_NEXT})?)?",
    re.ASCII,
)

#: From here on floats are written with an exponent, and all of them are whole numbers.
_EXPONENT_LIMIT = 1e16

# PostgreSQL's jsonb has no NUL, and UTF-8 has no halves of surrogate pairs.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def strip_signature(text: str) -> str:
    """Return `text` without the query parameters that sign a URL. All other characters are unchanged (vod-protocol 7.31).

    The text may be one URL, or prose or JSON that contains URLs. A parameter follows a `?` or `&`, which may be escaped.
    """
    if "=" not in text and "\\" not in text:
        return text
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    return _SIGNATURE.sub(_separator_to_keep, text)


def _separator_to_keep(match: re.Match[str]) -> str:
    # A parameter that follows needs the separator that was before the removed ones.
    return match["separator"] if match["next"] is not None else ""


def storable(text: str) -> str:
    """Return `text` with NUL and halves of surrogate pairs, which some databases refuse, replaced by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def clean(value: Any) -> Any:
    """Return a JSON value without URL signatures that every database stores and returns unchanged.

    Texts and keys are made storable. NaN and infinity become None. An integer beyond 64 bits becomes its digits as text. A value
    deeper than MAX_DEPTH becomes its compact JSON text. Cleaning a clean value changes nothing.
    """
    return _clean(value, 1)


def _clean(value: Any, level: int) -> Any:
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, dict):
        if level > MAX_DEPTH:
            return _as_text(value)
        # Most values of an answer are short texts in objects. Handling them here saves a call for each, a third of the time.
        return {
            storable(key): _clean_text(inner) if type(inner) is str else inner if inner is None else _clean(inner, level + 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        if level > MAX_DEPTH:
            return _as_text(value)
        return [_clean(inner, level + 1) for inner in value]
    if isinstance(value, float):
        return _clean_float(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        # str() refuses integers of more than 4,300 digits.
        return format(Decimal(value), "f")
    return value


def _clean_text(value: str) -> str:
    if value.isascii() and "=" not in value and "\\" not in value and "\0" not in value:
        return value
    return strip_signature(storable(value))


def _clean_float(value: float) -> float | int | str | None:
    if not math.isfinite(value):
        return None
    if abs(value) >= _EXPONENT_LIMIT:
        # PostgreSQL returns 1e16 as a whole number.
        whole: int | str = _clean(int(value), 1)
        return whole
    # PostgreSQL has no negative zero.
    return value or 0.0


def _as_text(value: Any) -> str | None:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    except (RecursionError, ValueError):
        return None
    return strip_signature(storable(text))
