"""The emulated queue hides, returns and refuses messages as SMQ does."""

from __future__ import annotations

import base64
import hashlib
from email.utils import formatdate
from typing import Any

import pytest

from worker.emulator.api.api_errors import ApiError
from worker.emulator.smq.signature import SmqSignatureVerifier, signature
from worker.emulator.smq.smq_queue import SmqQueue

NOON = 1_764_000_000.0
TARGET = "/queues/vod-events/messages?numOfMessages=16&waitseconds=20"
HEADERS = {"content-type": "text/xml;charset=utf-8", "date": "Mon, 24 Nov 2025 16:00:00 GMT", "x-mns-version": "2015-06-06"}


def call(
    porter: SmqSignatureVerifier, *, key: str = "demoKeyId", secret: str = "demoSecret", now: float = NOON, **headers: str
) -> None:
    """Make a signed call with some changes; a header that is "" is left out."""
    changed = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in changed.items() if value}
    sent.setdefault("authorization", f"MNS {key}:{signature(secret, 'GET', TARGET, sent)}")
    porter.verify(method="GET", resource=TARGET, headers=sent, body=b"<x/>", now=now)


# Signatures


def test_the_signature_is_the_documented_one() -> None:
    assert signature("demoSecret", "GET", TARGET, HEADERS) == "kXgVCYwaBKC0MD/wdSrWk5jmAMc="


def test_a_signed_call_may_have_a_digest_of_its_body() -> None:
    porter = SmqSignatureVerifier("demoKeyId", "demoSecret")

    call(porter)
    call(porter, content_md5=base64.b64encode(hashlib.md5(b"<x/>").digest()).decode())


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        ({"authorization": "demoKeyId:abc"}, "InvalidAuthorizationHeader", 400),
        ({"authorization": "MNS demoKeyId:kXgVCYwaBKC0MD/wdSrWk5jmAMd="}, "SignatureDoesNotMatch", 403),
        ({"secret": "another"}, "SignatureDoesNotMatch", 403),
        ({"key": "another"}, "InvalidAccessKeyId", 403),
        ({"x_mns_version": ""}, "InvalidArgument", 400),
        ({"date": ""}, "InvalidDateHeader", 400),
        ({"date": "yesterday"}, "InvalidDateHeader", 400),
        ({"date": formatdate(NOON - 16 * 60, usegmt=True)}, "InvalidDateHeader", 400),
        ({"security_token": "sts"}, "AccessDenied", 403),
        ({"content_md5": "AAAA"}, "InvalidDegist", 400),
    ],
)
def test_an_invalid_call_is_refused_with_a_code(changes: dict[str, Any], code: str, status: int) -> None:
    with pytest.raises(ApiError) as refused:
        call(SmqSignatureVerifier("demoKeyId", "demoSecret"), **changes)

    assert (refused.value.code, refused.value.status) == (code, status)


# Messages


def test_a_received_message_is_invisible_until_its_time_is_over() -> None:
    mailbox = SmqQueue(visibility=30)
    mailbox.send("a", NOON)

    (first,) = [letter.receipt for letter in mailbox.receive(16, NOON)]
    meanwhile = mailbox.receive(16, NOON + 29)
    (again,) = mailbox.receive(16, NOON + 31)

    assert meanwhile == []
    assert (again.receive_count, again.body) == (2, "a")
    assert again.receipt != first


def test_a_deleted_message_is_gone() -> None:
    mailbox = SmqQueue(visibility=30)
    mailbox.send("a", NOON)
    (letter,) = mailbox.receive(16, NOON)

    mailbox.delete(letter.receipt, NOON + 1)

    assert mailbox.receive(16, NOON + 60) == []
    assert mailbox.as_dict(NOON) == {"visible": 0, "invisible": 0, "written": 1, "received": 1, "deleted": 1, "void_receipts": 0}


def test_a_receipt_is_void_once_its_time_is_over_or_there_is_a_newer_one() -> None:
    mailbox = SmqQueue(visibility=30)
    mailbox.send("a", NOON)
    first = mailbox.receive(1, NOON)[0].receipt
    with pytest.raises(ApiError, match="receipt") as late:
        mailbox.delete(first, NOON + 30)
    second = mailbox.receive(1, NOON + 30)[0].receipt

    with pytest.raises(ApiError) as old:
        mailbox.delete(first, NOON + 31)
    mailbox.delete(second, NOON + 31)

    assert late.value.code == old.value.code == "ReceiptHandleError"
    assert len(mailbox) == 0


def test_the_time_of_a_received_message_can_be_extended() -> None:
    mailbox = SmqQueue(visibility=30)
    mailbox.send("a", NOON)
    old = mailbox.receive(1, NOON)[0].receipt

    held = mailbox.change_visibility(old, 100, NOON + 10)

    assert held.receipt != old
    assert mailbox.receive(1, NOON + 109) == []
    assert [letter.body for letter in mailbox.receive(1, NOON + 110)] == ["a"]


def test_peeking_receives_no_message() -> None:
    mailbox = SmqQueue(visibility=30)
    mailbox.send("a", NOON)

    seen = [mailbox.peek(16, NOON)[0].body for _ in range(2)]

    assert seen == ["a", "a"]
    assert [letter.receive_count for letter in mailbox.receive(16, NOON)] == [1]
