"""GetVideoInfo with real processes: it follows the batches, never delays them, and what is owed outlives whoever owes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import eventually


@pytest.fixture(params=list(PAIRS))
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    with installed(PAIRS[request.param], tmp_path, VODSYNC_VIDEO_INFO="on", VODSYNC_LEASE="5") as ready:
        ready.start_emulator("--media", "60")
        yield ready


def start(installation: Installation, name: str = "worker") -> None:
    if "receiver" not in installation.processes:
        installation.start("receiver", "serve")
    installation.start(name, "work", "--beat")
    installation.wait_until_ready()


def notify_all(installation: Installation) -> list[str]:
    media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
    for media_id in media_ids:
        assert installation.notify(analysed(media_id)).status_code == 200
    return media_ids


STORED = "vod_media WHERE state = 'ok'"
LOOKED_UP = "vod_video_info WHERE observed_at IS NOT NULL AND available_at IS NULL"


def count(installation: Installation, rows: str) -> int:
    return int(installation.database.value(f"SELECT count(*) FROM {rows}"))


def wait_until_all(installation: Installation, rows: str, *, within: float) -> None:
    eventually(
        lambda: count(installation, rows) == 60,
        within=within,
        missing=lambda: f"{rows}: {count(installation, rows)}; logs:\n{installation.logs()[-3000:]}",
    )


def set_fault(installation: Installation, **fault: dict[str, Any]) -> None:
    faults = {name: {"operation": "GetVideoInfo"} | rule for name, rule in fault.items()}
    installation.emulator.put("/faults", json=faults).raise_for_status()


def test_look_ups_that_take_long_delay_no_batch_and_outlive_a_kill(installation: Installation) -> None:
    set_fault(installation, slow={"probability": 1, "seconds": 3})
    start(installation)

    media_ids = notify_all(installation)
    wait_until_all(installation, STORED, within=20)
    looked_up_meanwhile = count(installation, LOOKED_UP)
    installation.processes["worker"].kill()
    installation.emulator.delete("/faults").raise_for_status()
    start(installation, "worker-again")
    wait_until_all(installation, LOOKED_UP, within=30)
    shown = [json.loads(installation.run("show", media_id, "--json").stdout) for media_id in media_ids[:3]]

    assert looked_up_meanwhile < 60
    for medium in shown:
        answer = medium["video_info"]["answer"]
        assert (medium["audit_status"], medium["region_id"]) == (answer["AuditStatus"] or None, answer["RegionId"])


def test_a_right_that_is_missing_for_it_is_said_and_stops_no_batch(installation: Installation) -> None:
    set_fault(installation, credentials={"probability": 1, "code": "Forbidden.RAM"})
    start(installation)

    notify_all(installation)
    wait_until_all(installation, STORED, within=20)
    problems = eventually(lambda: installation.http.get("/statusz").json()["problems"], within=10, missing="a problem")
    installation.emulator.delete("/faults").raise_for_status()
    installation.processes["worker"].stop()
    start(installation, "worker-again")

    assert [("GetVideoInfo" in problem, "RAM rights" in problem) for problem in problems] == [(True, True)]
    wait_until_all(installation, LOOKED_UP, within=30)
    eventually(lambda: not installation.http.get("/statusz").json()["problems"], within=10, missing="an end of the problem")


def test_errors_of_every_kind_end_with_every_answer_there(installation: Installation) -> None:
    kinds = ("reset", "truncated", "garbage", "http_500", "throttle")
    set_fault(installation, **{kind: {"probability": 0.1} for kind in kinds})
    start(installation)

    notify_all(installation)

    wait_until_all(installation, LOOKED_UP, within=60)
