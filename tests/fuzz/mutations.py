"""Strategies for messages that were changed or damaged on their way to us."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from tests.fuzz import json_documents
from tests.fuzz.json_documents import invalid_tokens, pick, weighted, write

#: A position in a message. It is taken modulo the number of positions that the message has.
_positions = st.integers(0, 2**16 - 1)

_MAX_LENGTH = 200_000  # bytes of a damaged message


# Changed values


class Change(NamedTuple):
    """A change of one value inside a JSON value.

    `payload` is a new value, a name and a value, the position of a value that fits the field, or nothing, depending on `kind`.
    """

    position: int
    kind: str
    payload: Any


_simple_kinds = st.sampled_from(("remove", "into list", "into JSON text", "into list of JSON text", "other form", "repeat"))

_changes = weighted(
    (10, st.tuples(_positions, st.just("replace"), json_documents.scalars)),
    (2, st.tuples(_positions, st.just("replace"), json_documents.values)),
    (8, st.tuples(_positions, st.just("fit"), _positions)),
    (1, st.tuples(_positions, st.just("twin"), _positions)),
    (2, st.tuples(_positions, st.just("add"), st.tuples(json_documents.names, json_documents.scalars))),
    (6, st.tuples(_positions, _simple_kinds, st.none())),
).map(Change._make)


class Flood(NamedTuple):
    """Replaces every n-th value that is neither list nor object by `scalar`, so that every field is tried with it soon."""

    first: int
    every: int
    scalar: Any


_floods = st.tuples(st.integers(0, 6), st.sampled_from((1, 2, 3, 7)), json_documents.scalars).map(Flood._make)


def changed(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for one of `values` with up to six changes, or with one scalar in many places."""
    originals = pick(values)
    few = st.builds(_apply, originals, st.lists(_changes, max_size=6))
    return weighted((9, few), (1, st.builds(_flood, originals, _floods)))


def _apply(original: Any, changes: Sequence[Change]) -> Any:
    value = copy.deepcopy(original)
    for change in changes:
        places = _places(value)
        if not places:
            break
        container, key = places[change.position % len(places)]
        _change(container, key, change)
    return value


def _flood(original: Any, flood: Flood) -> Any:
    value = copy.deepcopy(original)
    leaves = [(container, key) for container, key in _places(value) if not isinstance(container[key], dict | list)]
    for container, key in leaves[flood.first :: flood.every]:
        container[key] = flood.scalar
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return container and key or index of every value inside `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    places: list[tuple[Any, Any]] = []
    for key, inner in inside:
        places.append((value, key))
        places += _places(inner)
    return places


def _change(container: Any, key: Any, change: Change) -> None:
    old = container[key]
    if change.kind == "replace":
        container[key] = copy.deepcopy(change.payload)
    elif change.kind == "fit":
        container[key] = _fitting(key, change.payload)
    elif change.kind == "twin":
        if isinstance(key, str):
            container[f" {key}" if change.payload % 2 else f"{key} "] = _fitting(key, change.payload // 2)
    elif change.kind == "remove":
        del container[key]
    elif change.kind == "into list":
        container[key] = [old]
    elif change.kind == "into JSON text":
        container[key] = _as_text(old)
    elif change.kind == "into list of JSON text":
        container[key] = [_as_text([old])]
    elif change.kind == "other form":
        container[key] = str(old) if isinstance(old, int | float) else f" {old}\n" if isinstance(old, str) else None
    else:
        field_names = json_documents.FIELD_NAMES
        name, value = change.payload or (field_names[change.position % len(field_names)], copy.deepcopy(old))
        if isinstance(container, list):
            container.insert(change.position % (len(container) + 1), value)
        else:
            container[name] = value


def _fitting(key: Any, position: int) -> str:
    """Return a value that is difficult for the field `key`. Elements of a list count as ids."""
    values = json_documents.fitting(key.strip() if isinstance(key, str) else "MediaId")
    return values[position % len(values)]


def _as_text(value: Any) -> str:
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return "[]"


# Damaged bytes

_PIECES = [
    *(
        b"\0",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"\\u0000",
        b"\\",
        b'"',
        b"'",
    ),
    *(b"{", b"}", b"[", b"]", b",", b":", b"null", b"1e999", b"NaN", b"9" * 30, b"//", b"?auth_key=1-0-0-ff", b"&Signature=x"),
    *(b"\x1a", b"\\u003f", b"\\u0026", b"\\\\\\", b'\\"', b"\r\n", b"\x7f", b"\xe2\x80\xa8", b"[" * 600),
    *(b'"VideoId":"a",', b'"MediaInfos":[],'),
]


class Edit(NamedTuple):
    """A change of bytes. `piece`, `length` and `times` are used by some kinds only."""

    position: int
    kind: str
    piece: bytes
    length: int
    times: int


_edits = st.tuples(
    _positions,
    st.sampled_from(("insert", "replace", "remove", "repeat", "cut", "flip")),
    pick(_PIECES),
    st.sampled_from((1, 1, 2, 8, 64)),
    st.sampled_from((1, 2, 50)),
).map(Edit._make)


def damaged(messages: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for messages with some bytes changed, removed, moved or repeated."""
    return st.builds(_edit_all, messages, st.lists(_edits, min_size=1, max_size=4))


def _edit_all(message: bytes, edits: Sequence[Edit]) -> bytes:
    content = bytearray(message)
    for edit in edits:
        start = edit.position % (len(content) + 1)
        end = min(len(content), start + edit.length)
        if edit.kind == "insert":
            content[start:start] = edit.piece
        elif edit.kind == "replace":
            content[start:end] = edit.piece
        elif edit.kind == "remove":
            del content[start:end]
        elif edit.kind == "repeat":
            content[start:start] = content[start:end] * edit.times
        elif edit.kind == "cut":
            del content[start:]
        elif start < len(content):
            content[start] ^= 1 << edit.position % 8
    return bytes(content[:_MAX_LENGTH])


# Messages


def written(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return a strategy for the values as JSON, in any layout."""
    return st.builds(write, values, json_documents.layouts)


def messages(originals: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for messages: originals, changed or damaged ones, other JSON, and any bytes."""
    decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
    changed_messages = written(changed([decode(original) for original in originals]))
    objects = written(json_documents.objects)
    invalid = st.builds(
        lambda value, name, token: value | {name: token}, json_documents.objects, json_documents.names, invalid_tokens
    )
    return weighted(
        (16, changed_messages),
        (3, objects),
        (3, damaged(pick(originals))),
        (2, damaged(changed_messages)),
        (1, written(invalid)),
        (1, written(json_documents.values)),
        (1, pick(originals)),
        (1, st.binary(max_size=60)),
    )
