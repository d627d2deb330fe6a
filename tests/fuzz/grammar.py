"""JSON with a liking for what hurts, and the ways in which it can be written."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.fuzz import seeds
from worker.core import field_tables


class Token(str):
    """Stands in the JSON text as it is, without quotation marks."""

    __slots__ = ()


NAMES = sorted(
    {name for fields in (field_tables.MEDIA, field_tables.MEZZANINE, field_tables.AUDIO_STREAM.fields) for name, _, _ in fields}
    | {name for fields in (field_tables.VIDEO_STREAM.fields, field_tables.PLAY_INFO.fields) for name, _, _ in fields}
    | {"MediaInfos", "MediaInfo", "MezzanineInfo", "PlayInfoList", "AudioStreamList", "VideoStreamList", "Index", "JobId"}
    | {"MediaId", "VideoId", "MediaIds", "EventType", "EventTime", "Status", "DeleteType", "MediaType", "SubType", "TaskInput"}
    | {"NonExistMediaIds", "NonExistReferenceIds", "ForbiddenMediaIds", "RequestId", "Snapshots", "Snapshot", "Media"}
)
_ODD_NAMES = ["", " ", "EventType ", " VideoId", "\0", "\ud800", "\u00e9", "$", "a.b", "x" * 300, "?auth_key=1-0-0-ff", "ref:a"]

WORDS = [
    *(
        "",
        " ",
        "0",
        "1",
        "-1",
        "00",
        "-0.0",
        "0.0000005",
        "25.0",
        "1e5",
        "1e999",
        "-1e-999",
        "N/A",
        "NaN",
        "Infinity",
        "0/0",
        "1/0",
    ),
    *(
        "30000/1001",
        "1/3/5",
        "9" * 18,
        "9" * 40,
        "9" * 5000,
        "999999999999.9999996",
        "2147483648",
        "-9223372036854775809",
        "\u0663",
    ),
    *("18446744073709551616", "0x10", "1_000", "+5", "٣٤", "½", "true", "1.0"),
    *("2017-11-14T09:15:50Z", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:59", "2025-11-24T16:00:01:540Z"),
    *("2025-02-30T00:00:00Z", "1000-01-01T00:00:00+00:01", "2025-11-24 16:00:01.1234567890", "2025-11-24T24:00:00Z", "1764000000"),
    *("[", "]", "[]", "{}", '["a"]', '["a","b"', '[["a"],[["b"]]]', "a,b", ",", "a, ,b", '{"Snapshot":["a"]}', '{"Media":"a"}'),
    *('{"a":' * 30, "[" * 2000, "[" * 40 + "]" * 40, '["\\ud800"]', '["\\u0000"]', "[1e999]", "[" + "9" * 400 + "]"),
    *("all", "success", "fail", "Succeed", "video", "image", "DeleteMediaComplete", "WorkflowTaskComplete", "ImageUploadComplete"),
    *(seeds.SIGNED, seeds.OSS, f"{seeds.IMAGE}?auth_key=1", "?auth_key=", "&amp;Signature=x", r"?a=1\u0026auth_key=1"),
    *("\\" * 9 + "u003fauth_key=1", "\\" * 7 + "u0026Signature=x", "\\", '\\"', "?Expires=\\", "&auth_key=1\\", "?auth_key=1;"),
    *(
        "\0",
        "a\0b",
        "\ud800",
        "\udfff\ud800",
        "\ud83c\udfac",
        "\U0001f3ac",
        "\ufeff",
        "\u2028",
        "\x1b[2J",
        "\x7f",
        " \n",
        "\r\n",
        "\x85",
    ),
    *("e\u0301", "\u0130", "\u212a", "\u00a0a\u00a0", "x" * 64, "x" * 65, "x" * 128, "x" * 129, "x" * 5000, "\u00e9" * 64),
    *("ref:x", "ref:ref:", "'; DROP TABLE vod_media; --", "%s%n{0}", "%00", "../..", "<a>&amp;"),
    *seeds.IDS,
]

_TOKENS = [
    *(
        "1e-9999999999999999999",
        "1e9999999999999999999",
        "1." + "1" * 3000,
        "0",
        "-0",
        "-0.0",
        "1e999",
        "-1e999",
        "1E400",
        "1e-400",
        "9" * 17,
        "9" * 20,
        "9" * 310,
        "9" * 4301,
        "-" + "9" * 25,
        "0.1" + "0" * 500,
    ),
    *("1.7976931348623157e308", "2147483647", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808"),
    *("18446744073709551615", "18446744073709551616", "123456789012.1234567", "1e12", "1.5e3", "5e-324", "0.1", "44100.0"),
    *("true", "false", "null", "[]", "{}", "[[]]", '""'),
    *(f'"\\ud800{tail}"' for tail in ("", "\\ud800", "\\udfac", "x", "\\u0000")),
    *('"' + "\\" * run + 'u003fauth_key=1"' for run in (7, 8, 9, 11, 17)),
    *('"\\u0000"', '"\\ufeff"', '"\\u0041"', '"\\/"', '"\\u003fauth_key\\u003d1-0-0-ff\\u0026a=1"'),
]

# These are no JSON.
_BROKEN = [
    "NaN",
    "-Infinity",
    "Infinity",
    "01",
    "1.",
    ".5",
    "+1",
    "0x1",
    "'a'",
    "undefined",
    "",
    '"\t"',
    '"\\x"',
    '"\\u12"',
    "tru",
    "\ufeff",
    "1e",
]


def text(rng: Random) -> str:
    """One of the words that mean something to somebody, or a mixture of them."""
    if rng.random() < 0.7:
        return rng.choice(WORDS)
    joined = "".join(rng.choice(WORDS)[:40] for _ in range(rng.randint(2, 5)))
    return (
        joined
        if rng.random() < 0.8
        else joined + chr(rng.choice((rng.randrange(256), rng.randrange(0x3000), rng.randrange(0x110000))))
    )


def scalar(rng: Random) -> Any:
    dice = rng.random()
    if dice < 0.55:
        return text(rng)
    if dice < 0.8:
        return Token(rng.choice(_TOKENS))
    if dice < 0.82:
        return Token(rng.choice(_BROKEN))
    if dice < 0.9:
        return rng.choice((None, True, False, 0, 1, -1))
    return rng.getrandbits(rng.choice((8, 31, 33, 63, 64, 80))) * rng.choice((1, -1))


def name(rng: Random) -> str:
    return rng.choice(NAMES) if rng.random() < 0.9 else rng.choice(_ODD_NAMES)


def value(rng: Random, levels: int = 3) -> Any:
    """Any JSON value; deep nesting comes rarely, and then in earnest."""
    dice = rng.random()
    if levels == 0 or dice < 0.6:
        return scalar(rng)
    if dice < 0.78:
        return [value(rng, levels - 1) for _ in range(rng.randint(0, 4))]
    if dice < 0.98:
        return {name(rng): value(rng, levels - 1) for _ in range(rng.randint(0, 6))}
    return nested(rng)


def nested(rng: Random) -> Token:
    levels = rng.choice((14, 15, 16, 17, 30, 33, 60, 200, 500, 5000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ('[{"MediaId":', "}]")))
    return Token(
        opening * levels + rng.choice(("1", '"x"', "[]", '"?auth_key=1"')) + closing * rng.choice((levels, levels, levels, 0))
    )


_escape_all = json.encoder.encode_basestring_ascii
_escape_some = json.encoder.encode_basestring


def write(value: Any, rng: Random) -> bytes:
    """The value as JSON in one of its spellings: escapes, white space, a key twice, a byte order mark."""
    parts: list[str] = []
    blank = rng.choice(("", "", "", " ", "\n  ", "\t\r\n"))
    _write(value, rng, parts.append, blank, rng.random() < 0.5, rng.random() < 0.15)
    written = "".join(parts)
    if rng.random() < 0.02:
        written = "\ufeff" + written
    return written.encode("utf-8", "surrogatepass")


def _write(value: Any, rng: Random, put: Any, blank: str, ascii_only: bool, twice: bool) -> None:
    if isinstance(value, Token):
        put(value)
    elif isinstance(value, str):
        put(_string(value, rng, ascii_only))
    elif isinstance(value, dict):
        separator = "{" + blank
        for key, inner in value.items():
            if twice and rng.random() < 0.2:
                put(f"{separator}{_string(key, rng, ascii_only)}:{rng.choice(('null', '0', '[]', '{}', '1e999'))}")
                separator = "," + blank
            put(f"{separator}{_string(key, rng, ascii_only)}:{blank}")
            _write(inner, rng, put, blank, ascii_only, twice)
            separator = "," + blank
        put("}" if value else "{}")
    elif isinstance(value, list):
        put("[")
        for position, inner in enumerate(value):
            if position:
                put("," + blank)
            _write(inner, rng, put, blank, ascii_only, twice)
        put("]")
    elif value is None:
        put("null")
    elif isinstance(value, bool):
        put("true" if value else "false")
    else:
        put(repr(value))


def _string(said: str, rng: Random, ascii_only: bool) -> str:
    if ascii_only:
        return _escape_all(said)
    if len(said) < 40 and rng.random() < 0.02:
        return '"' + "".join(f"\\u{ord(char) & 0xFFFF:04x}" for char in said) + '"'
    return _escape_some(said)
