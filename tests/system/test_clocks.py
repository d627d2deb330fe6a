"""Machines whose clocks are two minutes off: rows arrive as usual, leases end in time, and the clock is named."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import monotonic_clock
from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import eventually

SHIFTED_CLOCK = Path(__file__).parent / "shifted_clock"

OFF = 120  # seconds

#: Far below the minutes that a wrong due time or lease would cost, and long enough for a busy machine.
USUAL_TIME = 60  # seconds


def shifted(seconds: int) -> dict[str, str]:
    """Return the environment of a role whose machine's clock is ahead by `seconds`."""
    return {"PYTHONPATH": str(SHIFTED_CLOCK), "CLOCK_AHEAD": str(seconds)}


@pytest.fixture(params=list(PAIRS))
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """Emulator, and a receiver whose clock is ahead. No worker runs yet."""
    with installed(PAIRS[request.param], tmp_path, VODSYNC_LEASE="2") as running:
        running.start_emulator("--media", "20", "--latency", "1", notify=False)
        running.start("receiver", "serve", **shifted(OFF))
        running.wait_until_ready()
        yield running


def test_clocks_that_are_off_delay_nothing_and_are_named(installation: Installation) -> None:
    media_ids: list[str] = installation.emulator.get("/media?limit=20").json()["media_ids"]
    started = monotonic_clock.seconds()
    killed = installation.start("ahead", "work", **shifted(OFF))
    for media_id in media_ids:
        assert installation.notify(analysed(media_id)).status_code == 200
    eventually(lambda: installation.calls()["calls"], within=20, missing=lambda: f"a call; logs:\n{installation.logs()[-3000:]}")
    # It dies with a lease: a call takes a second.
    killed.kill()

    installation.start("behind", "work", **shifted(-OFF))
    installation.wait_until_synced()

    assert monotonic_clock.seconds() - started < USUAL_TIME
    assert installation.database.count("vod_media") == len(media_ids)
    assert_on_time(installation)
    assert_named(installation)


def assert_on_time(installation: Installation) -> None:
    """Check that the stored times are those of the database, which has the test's clock."""
    now = datetime.now(UTC)
    times = [
        *installation.database.rows("SELECT received_at AS at FROM vod_notification"),
        *installation.database.rows("SELECT observed_at AS at FROM vod_media"),
        *installation.database.rows("SELECT seen_at AS at FROM vod_worker"),
    ]
    off = [row["at"] for row in times if abs(_utc(row["at"]) - now) > timedelta(seconds=OFF / 2)]
    assert off == []


def assert_named(installation: Installation) -> None:
    host = socket.gethostname()
    status = json.loads(installation.run("status", "--json").stdout)
    workers = {worker["clock_ahead_seconds"]: worker["state"] for worker in status["workers"]}
    receiver = installation.http.get("/statusz").json()["problems"]
    installation.settings |= shifted(-OFF)
    doctor = {line["part"]: line for line in json.loads(installation.run("doctor", "--json").stdout)}

    assert (workers[-OFF], "silent" in workers.values()) == ("ok", False)
    assert f"the clock of {host} is {OFF} s ahead of the database's; synchronise both machines by NTP" in receiver
    assert doctor["clock"] == {
        "part": "clock",
        "verdict": "bad",
        "says": f"the clock of {host} is {OFF} s behind the database's; synchronise both machines by NTP",
    }


def _utc(value: Any) -> datetime:
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
