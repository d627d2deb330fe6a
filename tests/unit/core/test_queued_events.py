"""Parsing of notifications that come through the SMQ queue."""

from __future__ import annotations

import base64
import json

import pytest

from tests.unit.core.test_events import SAMPLES
from worker.core.errors import NotificationRejectedError
from worker.core.events import parse, parse_queued

BODY = json.dumps(SAMPLES[0], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "text",
    [
        BODY.decode(),
        f"\ufeff  {BODY.decode()}\r\n",
        base64.b64encode(BODY).decode(),
        f" {base64.encodebytes(BODY).decode()}\n",
    ],
    ids=["plain", "with white space", "base64", "base64 in lines"],
)
def test_a_queued_notification_equals_the_posted_one(text: str) -> None:
    queued, posted = parse_queued(text), parse(BODY)

    assert (queued.event_key, queued.media_ids, queued.event_type) == (posted.event_key, posted.media_ids, posted.event_type)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "{",
        "[1]",
        base64.b64encode(b"hello").decode(),
        base64.b64encode(BODY).decode()[:-3],
        "\u4f60\u597d",
        "\ud800{",
        "{\ud800",
    ],
)
def test_a_queued_text_that_is_neither_json_nor_base64_is_malformed(text: str) -> None:
    with pytest.raises(NotificationRejectedError) as raised:
        parse_queued(text)

    assert raised.value.reason == "malformed"
