"""A receiver on a machine whose clock is off: when it records deliveries, and what it says about refused signatures."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from tests.builders import NOON, body
from worker.core.signature import sign
from worker.settings import Source
from worker.store.inbox.notifications import Delivery
from worker.web.group_commit import GroupCommit
from worker.web.receiver import Receiver

KEY = "Un1tTestCallbackKey"
URL = "https://vodsync.example.org/callbacks"
SECOND = timedelta(seconds=1)


def post(*, signed_ago: timedelta, ahead: timedelta, tolerance: int = 300) -> tuple[list[Delivery], list[str]]:
    """Send a callback to a machine whose clock is `ahead`. Return what was stored, and the receiver's problems."""
    timestamp = str(int((NOON - signed_ago).timestamp()))
    headers = [(b"x-vod-timestamp", timestamp.encode()), (b"x-vod-signature", sign(URL, timestamp, KEY).encode())]
    source = Source(callback_url=URL, callback_keys=(SecretStr(KEY),), callback_tolerance=tolerance)
    stored: list[Delivery] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body("a")}

    async def send(_message: Any) -> None:
        pass

    async def scenario() -> list[str]:
        group = GroupCommit[Delivery](stored.extend)
        receiver = Receiver({"default": source}, group, now=lambda: NOON + ahead, clock_ahead=lambda: ahead)
        await receiver({"type": "http", "method": "POST", "path": "/callbacks", "headers": headers}, receive, send)
        await group.close()
        return receiver.problems

    return stored, asyncio.run(scenario())


@pytest.mark.parametrize("ahead", [120 * SECOND, -120 * SECOND])
def test_a_delivery_is_recorded_at_the_time_of_the_database(ahead: timedelta) -> None:
    (stored,), problems = post(signed_ago=timedelta(0), ahead=ahead)

    assert stored.received_at == NOON
    assert problems == []


@pytest.mark.parametrize(
    ("ahead", "tolerance", "named"),
    [
        (400 * SECOND, 300, "400 s ahead of the database's; synchronise both machines by NTP"),
        (-400 * SECOND, 300, "400 s behind the database's; synchronise both machines by NTP"),
        (40 * SECOND, 30, "40 s ahead of the database's; synchronise both machines by NTP"),
    ],
)
def test_a_clock_for_which_all_callbacks_are_refused_is_named(ahead: timedelta, tolerance: int, named: str) -> None:
    stored, (problem,) = post(signed_ago=timedelta(0), ahead=ahead, tolerance=tolerance)

    assert stored == []
    assert problem.startswith("1 callback to source default refused since ")
    assert problem.endswith(named)


def test_a_clock_that_agrees_with_the_database_is_not_the_next_step() -> None:
    _, (problem,) = post(signed_ago=400 * SECOND, ahead=timedelta(0))

    assert "VODSYNC_CALLBACK_URL" in problem
