"""Verification of the signature of a callback."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import NotificationRejectedError
from worker.core.signature import sign, verify

URL = "https://media.example.org/hooks/vod?env=prod"
KEY = "Xk7Reference2Key"
STAMP = "1764000000"
NOW = datetime.fromtimestamp(1764000000, UTC)


def refusal(**changed: Any) -> str:
    """Return the reason for which the delivery is refused, "" if it is accepted."""
    delivery: dict[str, Any] = {
        "url": URL,
        "keys": [KEY],
        "timestamp": STAMP,
        "signature": sign(URL, STAMP, KEY),
        "now": NOW,
        "tolerance": timedelta(minutes=5),
    }
    try:
        verify(**(delivery | changed))
    except NotificationRejectedError as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("url", "timestamp", "key", "signature"),
    [
        ("https://www.example.com/your/callback", "1519375990", "test123", "c72b60894140fa98920f1279219b7ed4"),
        ("https://www.example.com/your/callback", "1519375990", "Test123", "c587b80d2d0ede300e8967937da7219b"),
        ("https://media.example.org/hooks/vod?env=prod", "1764000000", "Xk7Reference2Key", "15a8154398ec4f9d25a086609d9ca233"),
    ],
)
def test_the_examples_of_the_protocol_have_their_documented_signatures(url: str, timestamp: str, key: str, signature: str) -> None:
    assert sign(url, timestamp, key) == signature


def test_a_signed_delivery_is_accepted() -> None:
    assert refusal() == ""


def test_upper_case_and_surrounding_white_space_are_accepted() -> None:
    assert refusal(signature=f" {sign(URL, STAMP, KEY).upper()} ", timestamp=f" {STAMP} ") == ""


def test_old_and_new_key_are_both_accepted_during_a_rotation() -> None:
    assert refusal(keys=["NewKey1aaaaaaaaa", KEY]) == ""
    assert refusal(keys=[KEY, "NewKey1aaaaaaaaa"]) == ""


def test_a_removed_key_is_refused() -> None:
    assert refusal(keys=["NewKey1aaaaaaaaa"]) == "signature"
    assert refusal(keys=[]) == "signature"


def test_an_empty_key_is_never_accepted() -> None:
    assert refusal(keys=[""], signature=sign(URL, STAMP, "")) == "signature"


@pytest.mark.parametrize("missing", [{"timestamp": None}, {"signature": None}, {"timestamp": ""}, {"signature": " "}])
def test_a_delivery_without_one_of_the_headers_is_unsigned(missing: dict[str, object]) -> None:
    assert refusal(**missing) == "unsigned"


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_clocks_may_differ_by_the_tolerance(seconds: int) -> None:
    assert refusal(now=NOW + timedelta(seconds=seconds)) == ""


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_a_valid_signature_beyond_the_tolerance_is_stale(seconds: int) -> None:
    assert refusal(now=NOW + timedelta(seconds=seconds)) == "stale"


def test_a_wrong_signature_is_never_reported_as_stale() -> None:
    assert refusal(signature="0" * 32, now=NOW + timedelta(days=1)) == "signature"


@pytest.mark.parametrize("stamp", ["-5", "0", "9" * 20])
def test_signed_timestamps_of_other_ages_are_stale(stamp: str) -> None:
    assert refusal(timestamp=stamp, signature=sign(URL, stamp, KEY)) == "stale"


@pytest.mark.parametrize("stamp", ["now", "1e9", "1_764_000_000", "\u0661\u0667\u0666", "1764000000.0", "9" * 5000, "\udcff"])
def test_a_signed_timestamp_that_is_not_a_number_is_refused(stamp: str) -> None:
    assert refusal(timestamp=stamp, signature=sign(URL, stamp, KEY)) == "signature"


@pytest.mark.parametrize("sent", ["x" * 32, "\xe9" * 32, "\udcff", "0" * 31, "0" * 100_000, "15a8154398ec4f9d25a086609d9ca233x"])
def test_a_signature_that_is_not_a_digest_is_refused(sent: str) -> None:
    assert refusal(signature=sent) == "signature"


def test_the_error_names_the_settings_to_compare_and_no_secret() -> None:
    with pytest.raises(NotificationRejectedError) as raised:
        verify(url=URL, keys=[KEY], timestamp=STAMP, signature="0" * 32, now=NOW, tolerance=timedelta(minutes=5))

    assert "VODSYNC_CALLBACK_URL" in str(raised.value)
    assert KEY not in str(raised.value)
    assert sign(URL, STAMP, KEY) not in str(raised.value)


def test_a_signature_for_another_url_is_refused() -> None:
    assert refusal(url=URL + "&x=1") == "signature"
    assert refusal(url=URL.replace("https", "http")) == "signature"


BODY = b'{"EventType":"VideoAnalysisComplete"}'


@pytest.mark.parametrize(
    "look_alike",
    [
        # Volcengine: the same headers, and the body is signed too.
        hashlib.md5(f"{URL}|{STAMP}|{KEY}|{base64.b64encode(BODY).decode()}".encode()).hexdigest(),
        # Alibaba Live: the domain instead of the URL.
        hashlib.md5(f"media.example.org|{STAMP}|{KEY}".encode()).hexdigest(),
        # Formulas of other public code.
        hmac.new(KEY.encode(), BODY, hashlib.md5).hexdigest(),
        hmac.new(KEY.encode(), f"{URL}|{STAMP}".encode(), hashlib.md5).hexdigest(),
        hmac.new(KEY.encode(), BODY, hashlib.sha256).hexdigest(),
        hashlib.md5(f"{STAMP}|{URL}|{KEY}".encode()).hexdigest(),
        hashlib.md5(f"{URL}{STAMP}{KEY}".encode()).hexdigest(),
        hashlib.md5(f"{URL.split('?')[0]}|{STAMP}|{KEY}".encode()).hexdigest(),
    ],
)
def test_signatures_of_similar_protocols_are_refused(look_alike: str) -> None:
    assert refusal(signature=look_alike) == "signature"


@given(
    timestamp=st.none() | st.text() | st.integers().map(str),
    signature=st.none() | st.text() | st.text("0123456789abcdef", min_size=32, max_size=32),
)
def test_any_other_headers_are_refused(timestamp: str | None, signature: str | None) -> None:
    assert refusal(timestamp=timestamp, signature=signature) in {"unsigned", "signature"}
