"""Messages of other programs: valid ones, and the reasons for which others are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import MessageRejectedError
from worker.core.reprocess import MAX_KEYS, MAX_MESSAGE_SIZE, ReprocessRequest, is_json, read_message

SOURCES = ("default", "singapore")


def read(body: bytes | dict[str, Any]) -> ReprocessRequest:
    return read_message(body if isinstance(body, bytes) else json.dumps(body).encode(), sources=SOURCES, default="default")


def refusal(body: bytes | dict[str, Any]) -> str:
    with pytest.raises(MessageRejectedError) as caught:
        read(body)
    return str(caught.value)


def test_the_documented_message_is_read() -> None:
    request = read(b'{"source": "default", "media_ids": ["a", "b"], "reference_ids": ["c"], "reason": "re-encoded"}')

    assert request == ReprocessRequest("default", ("a", "b", "ref:c"), "re-encoded", "manual")


def test_one_id_is_a_complete_message() -> None:
    assert read({"media_ids": ["a"]}) == read({"media_ids": ["a"], "source": None, "reference_ids": None, "reason": None})
    assert read({"media_ids": ["a"]}) == ReprocessRequest("default", ("a",), "reprocess", "manual")
    assert read({"reference_ids": ["a"]}).keys == ("ref:a",)


def test_a_byte_order_mark_is_ignored() -> None:
    assert read(b'\xef\xbb\xbf {"media_ids": ["a"]}\r\n') == read({"media_ids": ["a"]})


def test_repeated_ids_are_requested_once_in_their_order() -> None:
    assert read({"media_ids": ["b", "a", "b"], "reference_ids": ["a", "a"]}).keys == ("b", "a", "ref:a")


@pytest.mark.parametrize("priority", ["live", "manual", "backfill"])
def test_a_message_chooses_its_priority(priority: str) -> None:
    assert read({"media_ids": ["a"], "priority": priority}).priority == priority


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("", "reprocess"),
        (" \t", "reprocess"),
        ("line\nfeed\x00 and \x1b[31mcolour", "line feed and [31mcolour"),
        ("重新转码 ✓", "重新转码 ✓"),
        ("x" * 100, "x" * 64),
        ("x" * 63 + " y", "x" * 63),
    ],
)
def test_a_reason_is_cut_to_its_column_and_to_one_line(given: str, stored: str) -> None:
    assert read({"media_ids": ["a"], "reason": given}).reason == stored


def test_a_message_has_a_largest_size() -> None:
    body = b'{"media_ids": ["a"]}'

    assert read(body.ljust(MAX_MESSAGE_SIZE)).keys == ("a",)
    assert refusal(body.ljust(MAX_MESSAGE_SIZE + 1)) == (
        "the message has 2,097,153 bytes; at most 2,097,152 are read, so send several"
    )


@pytest.mark.parametrize(("body", "expected"), [(b"{}", True), (b" [1]", True), (b"", False), (b"{", False), (b"[" * 5000, False)])
def test_json_is_distinguished_from_other_bytes(body: bytes, expected: bool) -> None:
    assert is_json(body) is expected


def test_a_message_has_a_largest_number_of_ids() -> None:
    ids = [str(number) for number in range(MAX_KEYS)]

    assert len(read({"media_ids": ids + ids}).keys) == MAX_KEYS
    assert refusal({"media_ids": ids, "reference_ids": ["one-more"]}) == (
        "the message names 10,001 media; at most 10,000 fit into one, so send several"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a JSON text"),
        (b"not json", "not a JSON text"),
        (b'{"media_ids": ["a"]', "not a JSON text"),
        (b'{"media_ids": ["a"]} {"media_ids": ["b"]}', "not a JSON text"),
        (b'{"media_ids": ["\xff"]}', "not a JSON text in UTF-8"),
        ('{"media_ids": ["a"]}'.encode("utf-16"), "not a JSON text in UTF-8"),
        (rb'{"media_ids": ["\ud800"]}', "not a JSON text"),
        (b"[" * 100_000, "Expected `object`, got `array`"),
        (b'{"reason": ' + b"[" * 100_000, "got `array` - at `$.reason`"),
        (b'["a"]', "Expected `object`, got `array`"),
        (b'"a"', "Expected `object`, got `str`"),
        (b"null", "Expected `object`, got `null`"),
        (b"{}", "names no media; add media_ids, reference_ids or both"),
        (b'{"media_ids": []}', "names no media"),
        (b'{"media_ids": "a"}', "got `str` - at `$.media_ids`"),
        (b'{"media_ids": {"a": 1}}', "got `object` - at `$.media_ids`"),
        (b'{"media_ids": [1]}', "Expected `str`, got `int` - at `$.media_ids[0]`"),
        (b'{"media_ids": ["a"], "reference_ids": [null]}', "got `null` - at `$.reference_ids[0]`"),
        (b'{"media_ids": ["a"], "reason": 5}', "at `$.reason`"),
        (b'{"media_ids": ["a"], "source": ["default"]}', "at `$.source`"),
        (b'{"media_ids": ["a"], "priority": "urgent"}', "at `$.priority`"),
        (b'{"media_ids": ["a"], "priority": 0}', "at `$.priority`"),
        (b'{"media_ids": ["a"], "refrence_ids": ["b"]}', "unknown field `refrence_ids`"),
        (b'{"media_ids": ["a"], "source": ""}', "unknown source ''; known are: default, singapore"),
        (b'{"media_ids": ["a"], "source": "Default"}', "unknown source 'Default'"),
        (b" " * (MAX_MESSAGE_SIZE + 1), "at most 2,097,152 are read, so send several"),
    ],
)
def test_an_invalid_message_is_refused_with_a_reason(body: bytes, reason: str) -> None:
    assert reason in refusal(body)


def test_one_invalid_id_refuses_the_message_and_is_named() -> None:
    reason = refusal({"media_ids": ["good", "a,b", ""], "reference_ids": ["ok", "ref:x", "\x1b[31m", "x" * 65]})

    assert reason == (
        "nothing was requested, because these ids are invalid (an id is 1 to 64 of A-Z a-z 0-9 _ -): "
        "media_ids[1] = 'a,b', media_ids[2] = '', reference_ids[1] = 'ref:x' and 2 more"
    )


def test_an_error_quotes_little_of_the_message() -> None:
    url = "https://example.org/video.mp4?auth_key=1700000000-0-0-0123456789abcdef"

    assert refusal({"media_ids": [url]}).endswith("media_ids[0] = 'https://example.org/…'")
    assert len(refusal({"x" * 100_000: 1})) < 200
    assert len(refusal({"media_ids": ["a"], "source": "x" * 100_000})) < 200


def test_a_message_has_to_name_a_source_if_there_is_no_default() -> None:
    body = b'{"media_ids": ["a"]}'

    with pytest.raises(MessageRejectedError, match=r"names no source and there is none called 'default'; known are: singapore"):
        read_message(body, sources=["singapore"], default="default")


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["source", "media_ids", "reference_ids", "reason", "priority"]) | st.text(), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_read_or_refused_in_one_printable_line(body: bytes) -> None:
    try:
        request = read(body)
    except MessageRejectedError as error:
        line = str(error)
    else:
        assert request.keys
        line = request.reason

    assert line.isprintable()
    assert len(line) < 300
