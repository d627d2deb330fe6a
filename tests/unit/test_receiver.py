"""How the receiver answers requests that uvicorn does not pass on, but other ASGI servers may."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.builders import body
from worker.settings import Source
from worker.store.inbox.notifications import Delivery
from worker.web.group_commit import GroupCommit
from worker.web.receiver import Receiver


def status_of(content: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    """Return the status of the answer to one unsigned callback, at a source that accepts unsigned callbacks."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content}

    async def send(message: Any) -> None:
        sent.append(message)

    async def scenario() -> None:
        group = GroupCommit[Delivery](lambda deliveries: None)
        receiver = Receiver({"default": Source(callback_unsigned="accept")}, group, now=lambda: datetime.now(UTC))
        await receiver({"type": "http", "method": "POST", "path": "/callbacks", "headers": headers}, receive, send)
        await group.close()

    asyncio.run(scenario())
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"1048576", 200),
        (b"1048577", 413),
        (b"9" * 5000, 413),
        (b"0" * 5000, 200),
        (b"\xb2", 200),
        (b"-1", 200),
        (b"", 200),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_content_length_above_the_limit_is_refused_and_an_invalid_one_is_ignored(length: bytes, status: int) -> None:
    assert status_of(body("a"), [(b"content-length", length)]) == status
