"""Strategies for JSON values that parsers and databases find difficult, and for the ways to write a value as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.fuzz import samples
from worker.core import field_tables

T = TypeVar("T")


def pick(values: Sequence[T]) -> st.SearchStrategy[T]:
    """Return a strategy for one of `values`. Unlike `st.sampled_from` it has a short repr, which Hypothesis computes often."""
    return st.integers(0, len(values) - 1).map(lambda index: values[index])


def weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Return a strategy that draws from one of several in proportion to their weights. `st.one_of` ignores repetitions."""
    strategies = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(strategies) - 1).flatmap(lambda index: strategies[index])


class Token(str):
    """JSON text that is written as it is, without quotation marks."""

    __slots__ = ()


_FIELDS = (
    field_tables.MEDIA,
    field_tables.MEZZANINE,
    field_tables.AUDIO_STREAM.fields,
    field_tables.VIDEO_STREAM.fields,
    field_tables.PLAY_INFO.fields,
)

#: The field names that our parsers read.
FIELD_NAMES = sorted(
    {name for fields in _FIELDS for name, _, _ in fields}
    | {"MediaInfos", "MediaInfo", "MezzanineInfo", "PlayInfoList", "AudioStreamList", "VideoStreamList", "Index", "JobId"}
    | {"MediaId", "VideoId", "MediaIds", "EventType", "EventTime", "Status", "DeleteType", "MediaType", "SubType", "TaskInput"}
    | {"NonExistMediaIds", "NonExistReferenceIds", "ForbiddenMediaIds", "RequestId", "Snapshots", "Snapshot", "Media"}
)
_ODD_NAMES = ["", " ", "EventType ", " VideoId", "\0", "\ud800", "\u00e9", "$", "a.b", "x" * 300, "?auth_key=1-0-0-ff", "ref:a"]

_NUMBERS = [
    *(
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
        "1/3/5",
    ),
    *("1/3/5", "30000/1001", "999999999999.9999996", "2147483648", "-9223372036854775809", "18446744073709551616", "0x10"),
    *("1_000", "+5", "\u0663", "\u0663\u0664", "\u00bd", "true", "1.0"),
]
_TIMES = [
    *("2017-11-14T09:15:50Z", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:59", "2025-11-24T16:00:01:540Z"),
    *("2025-02-30T00:00:00Z", "1000-01-01T00:00:00+00:01", "2025-11-24 16:00:01.1234567890", "2025-11-24T24:00:00Z", "1764000000"),
    *(
        "0999-12-31T23:59:59Z",
        "1000-01-01T00:00:00Z",
        "2025-11-24T16:00:01.5+08:00",
        "2025-11-24T16:00:01-03:30",
        "2025-11-24T16:00:01-08:00",
        "2025-11-24T23:00:01-12:00",
        "2025-11-24T16:00:01-0330",
        "2025-11-24T16:00:01",
    ),
]
_LISTS = [
    *("[", "]", "[]", "{}", '["a"]', '["a","b"', '[["a"],[["b"]]]', "a,b", ",", "a, ,b", '{"Snapshot":["a"]}', '{"Media":"a"}'),
    *('{"a":' * 30, "[" * 2000, "[" * 40 + "]" * 40, '["\\ud800"]', '["\\u0000"]', "[1e999]", "[" + "9" * 400 + "]"),
]
_VOCABULARY = [
    *("all", "success", "fail", "Succeed", "video", "image", "DeleteMediaComplete", "WorkflowTaskComplete", "ImageUploadComplete"),
    *("Normal", "Deleted", "Uploading", "true", "1", "0"),
]
_IDS = [
    *(
        *samples.IDS,
        "x" * 64,
        "x" * 65,
        "x" * 129,
        "0",
        "00",
        "a b",
        "a\n",
        " a",
        "a,b",
        "\u00e9",
        "\u0663",
        "ref:x",
        "ref-000001",
        "a\0",
    ),
]
_URLS = [
    *(samples.SIGNED, samples.OSS, f"{samples.IMAGE}?auth_key=1", "?auth_key=", "&amp;Signature=x", r"?a=1\u0026auth_key=1"),
    *("\\" * 9 + "u003fauth_key=1", "\\" * 7 + "u0026Signature=x", "\\", '\\"', "?Expires=\\", "&auth_key=1\\", "?auth_key=1;"),
]
_CHARACTERS = [
    *("", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\ud83c\udfac", "\U0001f3ac", "\ufeff", "\u2028", "\x1b[2J", "\x7f", " \n"),
    *("\r\n", "\x85", "e\u0301", "\u0130", "\u212a", "\u00a0a\u00a0", "\u00e9" * 64),
]
_LENGTHS = ["9" * 18, "9" * 40, "9" * 5000, "x" * 64, "x" * 65, "x" * 128, "x" * 129, "x" * 5000]
_INJECTIONS = ["ref:x", "ref:ref:", "'; DROP TABLE vod_media; --", "%s%n{0}", "%00", "../..", "<a>&amp;"]

#: Texts with a meaning for some part of vodsync.
WORDS = [*_NUMBERS, *_TIMES, *_LISTS, *_VOCABULARY, *_URLS, *_CHARACTERS, *_LENGTHS, *_INJECTIONS, *samples.IDS]

_TOKENS = [
    *("0", "-0", "-0.0", "1e999", "-1e999", "1E400", "1e-400", "1e-9999999999999999999", "1e9999999999999999999"),
    *("9" * 17, "9" * 20, "9" * 310, "9" * 4301, "-" + "9" * 25, "0.1" + "0" * 500, "1." + "1" * 3000),
    *("1.7976931348623157e308", "2147483647", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808"),
    *("18446744073709551615", "18446744073709551616", "123456789012.1234567", "1e12", "1.5e3", "5e-324", "0.1", "44100.0"),
    *("true", "false", "null", "[]", "{}", "[[]]", '""'),
    *(f'"\\ud800{tail}"' for tail in ("", "\\ud800", "\\udfac", "x", "\\u0000")),
    *('"' + "\\" * run + 'u003fauth_key=1"' for run in (7, 8, 9, 11, 17)),
    *('"\\u0000"', '"\\ufeff"', '"\\u0041"', '"\\/"', '"\\u003fauth_key\\u003d1-0-0-ff\\u0026a=1"'),
]

#: Groups of JSON values that a careless comparison may take for the same.
SIMILAR_TOKENS = [
    ("1e999", "1e400", "-1e999", "9" * 400, "9" * 399 + "8", '"1e999"', "null"),
    ("9" * 20, "9" * 19 + "8", "1e20", '"99999999999999999999"', "9" * 17, "9" * 16 + "8", "9007199254740993", "9007199254740992"),
    ("9" * 4301, "9" * 4302, "9" * 900, "8" + "9" * 899),
    ("1", "1.0", "true", '"1"', "[1]", '"true"', "1.0000000000000002"),
    ("0", "0.0", "false", "null", '""', "[]", "{}", '"0"', "[null]"),
    ('"a"', '"A"', '" a"', '"a "', '"a\\u0000"', '"\\u00e1"', '"a\\u0301"'),
    ('"\\ud800"', '"\\ud801"', '"\\ufffd"', '"\\ud83c\\udfac"', '"\\udfac\\ud83c"'),
    ('"http://h/?auth_key=1"', '"http://h/?auth_key=2"', '"http://h/"', '"http://h/?a=1"'),
    ('{"a":1,"b":2}', '{"a":2,"b":1}', '{"b":2}', '{"a":[1,2]}', '{"a":[2,1]}'),
]

_INVALID_TOKENS = ["NaN", "-Infinity", "Infinity", "01", "1.", ".5", "+1", "0x1", "'a'", "undefined", "", "tru", "\ufeff", "1e"]
_INVALID_TOKENS += ['"\t"', '"\\x"', '"\\u12"']

words = pick(WORDS)

#: Any character, halves of surrogate pairs included.
characters = st.characters(exclude_categories=())

_mixtures = st.lists(words.map(lambda word: word[:40]) | characters, min_size=2, max_size=5).map("".join)

#: Any text, most often one of WORDS.
texts = weighted((7, words), (2, _mixtures), (1, st.text(characters, max_size=10)))

names = pick([*FIELD_NAMES, *_ODD_NAMES])

#: Fields whose value is one of a few words.
_WORD_FIELDS = {"EventType", "Status", "DeleteType", "MediaType", "SubType", "Encrypt"}


def fitting(name: str) -> Sequence[str]:
    """Return values that the parser of a field with this name may find difficult."""
    if name.endswith(("Time", "Expiration")):
        return _TIMES
    if name.endswith(("Id", "Index")):
        return _IDS
    if name in _WORD_FIELDS:
        return [*_VOCABULARY, *_CHARACTERS, *_LENGTHS]
    if name.endswith(("Ids", "Snapshots", "Tags", "Input", "List")):
        return [*_LISTS, *_IDS]
    if name.endswith(("URL", "Url", "Title", "UserData", "Extend", "Token", "Name", "Description")):
        return [*_URLS, *_CHARACTERS]
    return [*_NUMBERS, *map(Token, _TOKENS)]


_plain_values = st.sampled_from([None, True, False, 0, 1, -1]) | st.integers(-(2**80), 2**80)

#: Anything that is neither list nor object.
scalars = weighted((11, texts), (5, pick(_TOKENS).map(Token)), (4, _plain_values))

#: Text in the place of a value that makes the whole document invalid.
invalid_tokens = st.sampled_from(_INVALID_TOKENS).map(Token)


@st.composite
def _deeply_nested(draw: st.DrawFn) -> Token:
    levels = draw(st.sampled_from((14, 15, 16, 17, 30, 33, 60, 200, 500, 5000)))
    opening, closing = draw(st.sampled_from((("[", "]"), ('{"a":', "}"), ('[{"MediaId":', "}]"))))
    leaf = draw(st.sampled_from(("1", '"x"', "[]", '"?auth_key=1"')))
    is_closed = draw(st.sampled_from((True, True, True, False)))
    return Token(opening * levels + leaf + closing * (levels if is_closed else 0))


def lists_of(items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=4)


def objects_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(st.tuples(names, values), max_size=6).map(dict)


_flat = weighted((3, scalars), (1, lists_of(scalars)), (1, objects_of(scalars)))

#: Any JSON value.
values = weighted((12, _flat), (3, lists_of(_flat)), (5, objects_of(_flat)), (1, _deeply_nested()))

objects = objects_of(values)


@dataclass(frozen=True)
class Layout:
    """A way to write a value as JSON."""

    white_space: str
    #: "ascii" escapes all other characters, "readable" only those that must be escaped, "all" every character of short texts.
    escapes: str
    #: Every n-th key of an object is written twice, first with another value. 0 for none.
    duplicate_every: int
    byte_order_mark: bool
    #: The keys of each object are written in the opposite order.
    is_reversed: bool


layouts = st.builds(
    Layout,
    white_space=st.sampled_from(("", "", " ", "\n  ", "\t\r\n")),
    escapes=st.sampled_from(("readable", "ascii", "readable", "ascii", "all")),
    duplicate_every=st.sampled_from((0, 0, 0, 0, 0, 5, 1)),
    byte_order_mark=st.sampled_from((False,) * 19 + (True,)),
    is_reversed=st.sampled_from((False, False, True)),
)


def write(value: Any, layout: Layout) -> bytes:
    """Return `value`, which may contain Tokens, as JSON."""
    parts: list[str] = ["\ufeff"] if layout.byte_order_mark else []
    _write(value, layout, parts.append)
    return "".join(parts).encode("utf-8", "surrogatepass")


def _write(value: Any, layout: Layout, put: Callable[[str], object]) -> None:
    blank = layout.white_space
    if isinstance(value, Token):
        put(value)
    elif isinstance(value, str):
        put(_string(value, layout))
    elif isinstance(value, dict):
        separator = "{" + blank
        items = reversed(value.items()) if layout.is_reversed else value.items()
        for position, (key, inner) in enumerate(items, 1):
            name = _string(key, layout)
            if layout.duplicate_every and position % layout.duplicate_every == 0:
                put(f"{separator}{name}:{('null', '0', '[]', '{}', '1e999')[position % 5]}")
                separator = "," + blank
            put(f"{separator}{name}:{blank}")
            _write(inner, layout, put)
            separator = "," + blank
        put("}" if value else "{}")
    elif isinstance(value, list):
        put("[")
        for position, inner in enumerate(value):
            if position:
                put("," + blank)
            _write(inner, layout, put)
        put("]")
    else:
        put("null" if value is None else repr(value).lower())


def _string(text: str, layout: Layout) -> str:
    if layout.escapes == "all" and len(text) < 40:
        return '"' + "".join(f"\\u{unit:04x}" for unit in _utf_16(text)) + '"'
    return json.dumps(text, ensure_ascii=layout.escapes != "readable")


def _utf_16(text: str) -> list[int]:
    encoded = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(encoded[start : start + 2], "big") for start in range(0, len(encoded), 2)]
