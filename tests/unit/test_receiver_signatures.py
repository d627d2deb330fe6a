"""Which callbacks a source accepts, by its keys and by whether it accepts unsigned ones."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest
from pydantic import SecretStr

from tests.builders import NOON, body
from worker.core.signature import sign
from worker.settings import Source
from worker.store.inbox.notifications import Delivery
from worker.web.group_commit import GroupCommit
from worker.web.receiver import Receiver

Unsigned = Literal["accept", "reject"]

KEY = "Un1tTestCallbackKey"
URL = "https://vodsync.example.org/callbacks"
TIMESTAMP = str(int(NOON.timestamp()))
STALE = str(int((NOON - timedelta(days=1)).timestamp()))

SIGNED = {b"x-vod-timestamp": TIMESTAMP, b"x-vod-signature": sign(URL, TIMESTAMP, KEY)}
WRONG_KEY = {b"x-vod-timestamp": TIMESTAMP, b"x-vod-signature": sign(URL, TIMESTAMP, "another key")}
TOO_OLD = {b"x-vod-timestamp": STALE, b"x-vod-signature": sign(URL, STALE, KEY)}
NO_SIGNATURE = {b"x-vod-timestamp": TIMESTAMP}
NO_TIMESTAMP = {b"x-vod-signature": sign(URL, TIMESTAMP, KEY)}
EMPTY = {b"x-vod-timestamp": "", b"x-vod-signature": ""}
UNSIGNED: dict[bytes, str] = {}


def source(*, keys: tuple[str, ...] = (KEY,), unsigned: Unsigned) -> Source:
    return Source(callback_url=URL, callback_keys=tuple(map(SecretStr, keys)), callback_unsigned=unsigned)


def post(described: Source, headers: dict[bytes, str]) -> tuple[int, str, int]:
    """Send one callback. Return its status, its reason (empty if accepted) and how many notifications were stored."""
    sent: list[Any] = []
    stored: list[Delivery] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body("a")}

    async def send(message: Any) -> None:
        sent.append(message)

    async def scenario() -> None:
        group = GroupCommit[Delivery](stored.extend)
        receiver = Receiver({"default": described}, group, now=lambda: NOON)
        raw_headers = [(name, value.encode()) for name, value in headers.items()]
        await receiver({"type": "http", "method": "POST", "path": "/callbacks", "headers": raw_headers}, receive, send)
        await group.close()

    asyncio.run(scenario())
    status: int = sent[0]["status"]
    reason = "" if status == 200 else msgspec.json.decode(sent[1]["body"])["reason"]
    return status, reason, len(stored)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param(WRONG_KEY, "signature", id="wrong key"),
        pytest.param(TOO_OLD, "stale", id="too old"),
        pytest.param(NO_SIGNATURE, "unsigned", id="no signature"),
        pytest.param(NO_TIMESTAMP, "unsigned", id="no timestamp"),
        pytest.param(EMPTY, "unsigned", id="empty headers"),
    ],
)
@pytest.mark.parametrize("unsigned", ["accept", "reject"])
def test_a_wrong_signature_is_refused_even_if_unsigned_callbacks_are_accepted(
    unsigned: Unsigned, headers: dict[bytes, str], reason: str
) -> None:
    answer = post(source(unsigned=unsigned), headers)

    assert answer == (401, reason, 0)


@pytest.mark.parametrize(
    ("unsigned", "expected"), [("accept", (200, "", 1)), ("reject", (401, "unsigned", 0))], ids=["accept", "reject"]
)
def test_a_callback_without_signature_is_accepted_only_if_the_source_accepts_unsigned_ones(
    unsigned: Unsigned, expected: tuple[int, str, int]
) -> None:
    assert post(source(unsigned=unsigned), UNSIGNED) == expected


@pytest.mark.parametrize("unsigned", ["accept", "reject"])
def test_a_callback_signed_with_one_of_the_keys_is_accepted(unsigned: Unsigned) -> None:
    assert post(source(unsigned=unsigned), SIGNED) == (200, "", 1)


@pytest.mark.parametrize("headers", [SIGNED, WRONG_KEY, NO_SIGNATURE, UNSIGNED])
def test_a_source_without_keys_that_accepts_unsigned_callbacks_checks_no_signature(headers: dict[bytes, str]) -> None:
    assert post(source(keys=(), unsigned="accept"), headers) == (200, "", 1)
