"""The signature of a callback."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import NotificationRejectedError
from worker.core.signature import sign, verify

URL = "https://media.example.org/hooks/vod?env=prod"
KEY = "Xk7Reference2Key"
STAMP = "1764000000"
NOW = datetime.fromtimestamp(1764000000, UTC)


def refusal(**changed: object) -> str:
    """The reason why the delivery is refused; "" where it is taken."""
    delivery = {
        "url": URL,
        "keys": [KEY],
        "timestamp": STAMP,
        "signature": sign(URL, STAMP, KEY),
        "now": NOW,
        "tolerance": timedelta(minutes=5),
    }
    try:
        verify(**(delivery | changed))  # type: ignore[arg-type]
    except NotificationRejectedError as refused:
        return refused.reason
    return ""


@pytest.mark.parametrize(
    ("url", "timestamp", "key", "signature"),
    [
        ("https://www.example.com/your/callback", "1519375990", "test123", "c72b60894140fa98920f1279219b7ed4"),
        ("https://www.example.com/your/callback", "1519375990", "Test123", "c587b80d2d0ede300e8967937da7219b"),
        ("https://media.example.org/hooks/vod?env=prod", "1764000000", "Xk7Reference2Key", "15a8154398ec4f9d25a086609d9ca233"),
    ],
)
def test_the_worked_examples_of_the_protocol_agree(url, timestamp, key, signature):
    assert sign(url, timestamp, key) == signature


def test_a_delivery_of_vod_is_accepted():
    assert refusal() == ""


def test_upper_case_and_surrounding_blanks_do_not_matter():
    assert refusal(signature=f" {sign(URL, STAMP, KEY).upper()} ", timestamp=f" {STAMP} ") == ""


def test_old_and_new_key_are_both_accepted_while_rotating():
    assert refusal(keys=["NewKey1aaaaaaaaa", KEY]) == ""
    assert refusal(keys=[KEY, "NewKey1aaaaaaaaa"]) == ""


def test_a_key_that_was_taken_out_is_refused():
    assert refusal(keys=["NewKey1aaaaaaaaa"]) == "signature"
    assert refusal(keys=[]) == "signature"


def test_an_empty_key_signs_nothing():
    assert refusal(keys=[""], signature=sign(URL, STAMP, "")) == "signature"


@pytest.mark.parametrize("missing", [{"timestamp": None}, {"signature": None}, {"timestamp": ""}, {"signature": " "}])
def test_without_one_of_the_headers_it_is_unsigned(missing):
    assert refusal(**missing) == "unsigned"


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_clocks_may_differ_by_the_tolerance(seconds):
    assert refusal(now=NOW + timedelta(seconds=seconds)) == ""


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_a_right_signature_beyond_the_tolerance_is_stale(seconds):
    assert refusal(now=NOW + timedelta(seconds=seconds)) == "stale"


def test_a_wrong_signature_is_never_called_stale():
    assert refusal(signature="0" * 32, now=NOW + timedelta(days=1)) == "signature"


@pytest.mark.parametrize("stamp", ["-5", "0", "9" * 20])
def test_signed_times_of_other_ages_are_stale(stamp):
    assert refusal(timestamp=stamp, signature=sign(URL, stamp, KEY)) == "stale"


@pytest.mark.parametrize("stamp", ["now", "1e9", "1_764_000_000", "\u0661\u0667\u0666", "1764000000.0", "9" * 5000, "\udcff"])
def test_a_timestamp_that_is_no_number_is_refused_even_if_signed(stamp):
    assert refusal(timestamp=stamp, signature=sign(URL, stamp, KEY)) == "signature"


@pytest.mark.parametrize("sent", ["x" * 32, "\xe9" * 32, "\udcff", "0" * 31, "0" * 100_000, "15a8154398ec4f9d25a086609d9ca233x"])
def test_garbage_in_place_of_the_signature_is_refused(sent):
    assert refusal(signature=sent) == "signature"


def test_the_refusal_tells_what_to_compare_and_no_secret():
    with pytest.raises(NotificationRejectedError) as refused:
        verify(url=URL, keys=[KEY], timestamp=STAMP, signature="0" * 32, now=NOW, tolerance=timedelta(minutes=5))

    assert "VODSYNC_CALLBACK_URL" in str(refused.value)
    assert KEY not in str(refused.value)
    assert sign(URL, STAMP, KEY) not in str(refused.value)


def test_another_url_is_refused():
    assert refusal(url=URL + "&x=1") == "signature"
    assert refusal(url=URL.replace("https", "http")) == "signature"


BODY = b'{"EventType":"VideoAnalysisComplete"}'


@pytest.mark.parametrize(
    "look_alike",
    [
        # Volcengine: the same headers, and the body in the sum.
        hashlib.md5(f"{URL}|{STAMP}|{KEY}|{base64.b64encode(BODY).decode()}".encode()).hexdigest(),
        # Alibaba Live: the domain in place of the URL.
        hashlib.md5(f"media.example.org|{STAMP}|{KEY}".encode()).hexdigest(),
        # What some public code does.
        hmac.new(KEY.encode(), BODY, hashlib.md5).hexdigest(),
        hmac.new(KEY.encode(), f"{URL}|{STAMP}".encode(), hashlib.md5).hexdigest(),
        hmac.new(KEY.encode(), BODY, hashlib.sha256).hexdigest(),
        hashlib.md5(f"{STAMP}|{URL}|{KEY}".encode()).hexdigest(),
        hashlib.md5(f"{URL}{STAMP}{KEY}".encode()).hexdigest(),
        hashlib.md5(f"{URL.split('?')[0]}|{STAMP}|{KEY}".encode()).hexdigest(),
    ],
)
def test_signatures_of_look_alike_protocols_are_refused(look_alike):
    assert refusal(signature=look_alike) == "signature"


@given(
    timestamp=st.none() | st.text() | st.integers().map(str),
    signature=st.none() | st.text() | st.text("0123456789abcdef", min_size=32, max_size=32),
)
def test_nothing_but_a_refusal_comes_of_other_headers(timestamp, signature):
    assert refusal(timestamp=timestamp, signature=signature) in {"unsigned", "signature"}
