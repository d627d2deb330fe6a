"""Removal of signatures from URLs, and values that every database stores."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.urls import MAX_DEPTH, clean, strip_signature

PAGE = "http://img.example.org/a/b.jpg"
OSS = "Expires=1764003600&OSSAccessKeyId=LTAI5t&Signature=aB%2Bc%2Fd%3D&security-token=CAIS%2Fx%3D%3D"
V4 = (
    "x-oss-date=20251124T160000Z&x-oss-expires=3600&x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-additional-headers=host;range"
    "&x-oss-credential=LTAI5t%2F20251124%2Fcn-shanghai%2Foss%2Faliyun_v4_request&x-oss-security-token=CAIS&x-oss-signature=77dc"
)


@pytest.mark.parametrize(
    ("signed", "plain"),
    [
        ("?auth_key=1764003600-0-0-f00b9455", ""),
        (f"?{OSS}", ""),
        (f"?{V4}", ""),
        ("?auth_key=", ""),
        ("?a=1&auth_key=1-0-0-ff", "?a=1"),
        ("?auth_key=1-0-0-ff&a=1", "?a=1"),
        ("?a=1&auth_key=1-0-0-ff&b=2", "?a=1&b=2"),
        ("?a=1&Expires=1&b=2&Signature=x%2F&c=3", "?a=1&b=2&c=3"),
        ("?AUTH_KEY=1&EXPIRES=2&signature=3&ossaccesskeyid=4&Security-Token=5", ""),
        ("?auth_key=1#t=5", "#t=5"),
        ("?a=1&auth_key=1#t=5", "?a=1#t=5"),
        ("?a=1&amp;auth_key=1&amp;b=2", "?a=1&amp;b=2"),
        ("?auth_key=1&amp;b=2", "?b=2"),
        (r"?a=1\u0026auth_key=1\u0026b=2", r"?a=1\u0026b=2"),
        (r"?auth_key\u003d1\u0026b\u003d2", r"?b\u003d2"),
        (r"?a=1\\u0026Signature=x\/y\u002bz", "?a=1"),
        ("?auth_key=1&", ""),
        ("?a=1&auth_key=1&", "?a=1"),
        ("?&auth_key=1", ""),
        ("?x-oss-process=image/resize,w_100&Signature=x", "?x-oss-process=image/resize,w_100"),
        ("?next=http://b.example.org/c?auth_key=1-0-0-ff&d=4", "?next=http://b.example.org/c?d=4"),
        ("?auth_key=1?auth_key=2", ""),
        ("?Signature=ab+/==&a=1", "?a=1"),
        ("?OSSAccessKeyId=STS.NU12&a=1", "?a=1"),
    ],
)
def test_signing_parameters_are_removed(signed: str, plain: str) -> None:
    assert strip_signature(PAGE + signed) == PAGE + plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        PAGE,
        f"{PAGE}?a=1&b=2",
        f"{PAGE}?my_auth_key=1&auth_keys=2&unsignature=3",
        f"{PAGE}?x-oss-process=video/snapshot,t_1000",
        f"{PAGE}?Signature",
        "Expires=1764003600 is when auth_key=1 ends",
        "How does Signature work? It expires.",
        '{"Signature":"x","Expires":1}',
        "a & b = token",
    ],
)
def test_all_other_texts_are_unchanged(text: str) -> None:
    assert strip_signature(text) == text


def test_every_url_in_prose_is_stripped() -> None:
    text = f"See ({PAGE}?auth_key=1-0-0-ff), {PAGE}?a=1&Signature=x. And {PAGE}?auth_key=2\u3002"

    assert strip_signature(text) == f"See ({PAGE}), {PAGE}?a=1. And {PAGE}\u3002"


def test_urls_inside_json_text_are_stripped_at_each_level() -> None:
    inner = json.dumps([f"{PAGE}?auth_key=1-0-0-aa", f"{PAGE}?auth_key=1-0-0-bb&a=1"])
    outer = json.dumps({"Snapshots": [inner], "Extend": json.dumps({"x": inner})})

    stripped = strip_signature(outer)

    assert json.loads(json.loads(stripped)["Snapshots"][0]) == [PAGE, f"{PAGE}?a=1"]
    assert json.loads(json.loads(json.loads(stripped)["Extend"])["x"]) == [PAGE, f"{PAGE}?a=1"]


@pytest.mark.parametrize("backslashes", [1, 7, 8, 9, 10, 15, 17, 64])
def test_json_stays_valid_at_every_level_of_escaping(backslashes: int) -> None:
    escape = "\\" * backslashes
    text = f'["{PAGE}{escape}u003fauth_key{escape}u003d1-0-0-ff{escape}u0026a=1"]'

    stripped = strip_signature(text)

    assert json.loads(stripped)
    assert "1-0-0-ff" not in stripped


def test_every_url_in_a_comma_list_is_stripped() -> None:
    assert strip_signature(f"{PAGE}?auth_key=1,{PAGE}?auth_key=2") == f"{PAGE},{PAGE}"


@pytest.mark.parametrize(
    "text",
    [
        "?" + "&" * 200_000 + "auth_key=1",
        "\\" * 200_000 + "auth_key=1",
        "?auth_key=" + "." * 200_000,
        "?auth_key=" + "." * 200_000 + "x",
        "?auth_key=1&" * 20_000,
        "&amp;" * 40_000 + "auth_key=1",
        "?auth_key=" + "\\" * 200_000,
        "?auth_key\\\\\\" * 50_000,
        "?auth_key=1.\\u002" * 50_000,
    ],
)
def test_hostile_texts_are_stripped_in_linear_time(text: str) -> None:
    # With a pattern that backtracks, each of these takes minutes.
    assert "auth_key=1" not in strip_signature(text).replace("\\auth_key=1", "")


PIECES = ["?", "&", "&amp;", "amp;", r"\u0026", r"\u003f", "\\", "=", r"\u003d", "auth_key", "Signature", "Expires=1"]

fragments = st.lists(st.sampled_from([*PIECES, *'x/.;"# \xe9']), max_size=14).map("".join)


@given(fragments | st.text())
def test_stripping_twice_changes_nothing(text: str) -> None:
    once = strip_signature(text)

    assert strip_signature(once) == once


values = st.text(st.sampled_from("abcXYZ019%-_.~+/=*"), min_size=6, max_size=30).map("secret".__add__)
secret_names = st.sampled_from(["auth_key", "Expires", "OSSAccessKeyId", "Signature", "security-token", "x-oss-signature"])


@given(
    st.lists(st.tuples(secret_names, values), min_size=1),
    st.lists(st.tuples(st.sampled_from(["a", "b", "token", "x-oss-process"]), st.text("abc123", max_size=5))),
    st.randoms(use_true_random=False),
    st.sampled_from(["&", "&amp;", r"\u0026"]),
)
def test_the_other_parameters_of_any_mixture_stay_in_their_order(
    secrets: list[tuple[str, str]], others: list[tuple[str, str]], random: Random, separator: str
) -> None:
    # Each signing parameter goes to a random place. The others keep their order.
    query = list(others)
    for secret in secrets:
        query.insert(random.randint(0, len(query)), secret)
    rendered = separator.join(f"{name}={value}" for name, value in query)
    kept = separator.join(f"{name}={value}" for name, value in others)

    stripped = strip_signature(f"{PAGE}?{rendered}#")

    assert stripped == (f"{PAGE}?{kept}#" if others else f"{PAGE}#")
    assert "secret" not in stripped


def test_the_texts_of_a_value_are_stripped_and_its_keys_are_not() -> None:
    value = {"?auth_key=1": [f"{PAGE}?auth_key=1", {"x": f"{PAGE}?Signature=1"}], "n": [1, 2.5, True, None]}

    assert clean(value) == {"?auth_key=1": [PAGE, {"x": PAGE}], "n": [1, 2.5, True, None]}


def test_nul_and_halves_of_surrogate_pairs_become_replacement_characters() -> None:
    assert clean({"a\0": "b\0c", "\ud800": "x\udfff"}) == {"a\ufffd": "b\ufffdc", "\ufffd": "x\ufffd"}
    assert clean("\U0001f3ac") == "\U0001f3ac"


def test_nan_and_infinity_become_none() -> None:
    assert clean([math.nan, math.inf, -math.inf]) == [None, None, None]


def test_integers_beyond_64_bits_become_their_digits() -> None:
    assert clean([2**63, 2**64 - 1, 2**64]) == [2**63, 2**64 - 1, str(2**64)]
    assert clean([-(2**63), -(2**63) - 1]) == [-(2**63), str(-(2**63) - 1)]
    assert len(clean(10**5000)) == 5001


def test_floats_become_what_every_database_returns() -> None:
    cleaned = clean([1e16, 1e300, -0.0, 0.5, 1e15, 5e-324])

    assert repr(cleaned) == repr([10**16, format(Decimal(int(1e300)), "f"), 0.0, 0.5, 1e15, 5e-324])


def nested(levels: int, leaf: object = "x") -> object:
    for _ in range(levels):
        leaf = [leaf]
    return leaf


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def test_values_below_the_deepest_level_become_text() -> None:
    assert clean(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    assert clean(nested(MAX_DEPTH + 3)) == nested(MAX_DEPTH, leaf='[[["x"]]]')


def test_objects_below_the_deepest_level_have_sorted_keys() -> None:
    first, second = clean(nested(MAX_DEPTH, {"a": 1, "b": 2})), clean(nested(MAX_DEPTH, {"b": 2, "a": 1}))

    assert first == second == nested(MAX_DEPTH, '{"a":1,"b":2}')


def test_a_signature_that_is_escaped_as_a_whole_is_removed() -> None:
    assert clean({"url": "http://h/a.jpg\\u003fauth_key\\u003d1-0-0-ff"}) == {"url": "http://h/a.jpg"}


def test_endless_nesting_is_cut() -> None:
    value: list[object] = []
    value.append(value)

    assert depth(clean(value)) <= MAX_DEPTH
    assert depth(clean(nested(100_000))) <= MAX_DEPTH


any_text = st.text(st.characters() | st.sampled_from("\0\ud800\udfff?&="), max_size=12) | fragments
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=25,
)


def storable(value: object) -> bool:
    if isinstance(value, str):
        return "\0" not in value and value.encode("utf-8", "replace").decode() == value
    if isinstance(value, dict):
        return all(storable(key) and storable(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(storable, value))
    return not isinstance(value, float) or math.isfinite(value)


@given(any_json)
def test_a_cleaned_value_is_storable_and_cleaning_it_again_changes_nothing(value: object) -> None:
    cleaned = clean(value)

    assert storable(cleaned)
    assert depth(cleaned) <= MAX_DEPTH
    assert clean(cleaned) == cleaned


@given(any_json, st.integers(0, 40))
def test_depth_is_bounded_for_any_value(value: object, levels: int) -> None:
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}

    cleaned = clean(value)

    assert depth(cleaned) <= MAX_DEPTH
    assert clean(cleaned) == cleaned
