"""What can become of a real message on its way to us."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from tests.fuzz import grammar

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
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"1e999",
        b"NaN",
        b"9" * 30,
        b"//",
        b"?auth_key=1-0-0-ff",
        b"&Signature=x",
        b"\x1a",
    ),
    *(
        b"\\u003f",
        b"\\u0026",
        b"\\\\\\",
        b'\\"',
        b"\r\n",
        b"\x7f",
        b"\xe2\x80\xa8",
        b'"VideoId":"a",',
        b'"MediaInfos":[],',
        b"[" * 600,
    ),
]


def message(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed as it is, or changed in its values, its bytes or both; or something else altogether."""
    dice = rng.random()
    if dice < 0.05:
        return rng.choice(seeds)
    if dice < 0.15:
        return grammar.write({grammar.name(rng): grammar.value(rng) for _ in range(rng.randint(0, 6))}, rng)
    if dice < 0.17:
        return grammar.write(grammar.value(rng), rng)
    if dice < 0.18:
        return rng.randbytes(rng.randint(0, 60))
    if dice < 0.28:
        return harmed(rng, rng.choice(seeds), seeds)
    written = grammar.write(changed(rng, msgspec.json.decode(rng.choice(seeds))), rng)
    return harmed(rng, written, seeds) if dice > 0.92 else written


def changed(rng: Random, value: Any) -> Any:
    """`value` (which is taken over) with up to six places changed, or many; it stays something that grammar.write takes."""
    if rng.random() < 0.08:
        _flood(rng, value)
        return value
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        places: list[tuple[Any, Any]] = []
        _places(value, places)
        if not places:
            break
        container, at = rng.choice(places)
        _change(rng, container, at)
    return value


def _flood(rng: Random, value: Any) -> None:
    """One odd value in a third of all fields: so every field meets every value before long."""
    places: list[tuple[Any, Any]] = []
    _places(value, places)
    odd = grammar.scalar(rng)
    for container, at in places:
        if not isinstance(container[at], dict | list) and rng.random() < 0.3:
            container[at] = odd


def _places(value: Any, places: list[tuple[Any, Any]]) -> None:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for at, inner in inside:
        places.append((value, at))
        if isinstance(inner, dict | list):
            _places(inner, places)


def _change(rng: Random, container: Any, at: Any) -> None:
    old, dice = container[at], rng.random()
    if dice < 0.45:
        container[at] = grammar.scalar(rng)
    elif dice < 0.55:
        container[at] = grammar.value(rng)
    elif dice < 0.63:
        del container[at]
    elif dice < 0.68:
        container[at] = [old]
    elif dice < 0.73:
        # JSON in text, as VOD likes it.
        container[at] = _as_text(old)
    elif dice < 0.78:
        container[at] = [_as_text([old])]
    elif dice < 0.83:
        container[at] = str(old) if isinstance(old, int | float) else f" {old}\n" if isinstance(old, str) else None
    elif dice < 0.9 and isinstance(container, list):
        container.insert(rng.randint(0, len(container)), rng.choice((old, grammar.value(rng))))
    elif isinstance(container, dict):
        container[grammar.name(rng)] = rng.choice((old, grammar.scalar(rng)))
    else:
        container[at] = {grammar.name(rng): old}


def _as_text(value: Any) -> str:
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return "[]"


def harmed(rng: Random, message: bytes, others: Sequence[bytes]) -> bytes:
    """`message` with some of its bytes changed, lost, moved or repeated."""
    found = bytearray(message)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        start = rng.randint(0, len(found))
        end = min(len(found), start + rng.choice((1, 1, 2, 8, 64)))
        dice = rng.random()
        if dice < 0.25:
            found[start:start] = rng.choice(_PIECES)
        elif dice < 0.4:
            found[start:end] = rng.choice(_PIECES)
        elif dice < 0.55:
            del found[start:end]
        elif dice < 0.65:
            found[start:start] = found[start:end] * rng.choice((1, 2, 50))
        elif dice < 0.72:
            del found[start:]
        elif dice < 0.8:
            other = rng.choice(others)
            cut = rng.randint(0, len(other))
            found[start:] = other[cut:]
        elif found and start < len(found):
            found[start] = rng.choice((found[start] ^ (1 << rng.randrange(8)), rng.randrange(256)))
    return bytes(found[:200_000])
