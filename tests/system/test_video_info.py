"""GetVideoInfo with real processes: it never delays batches, and pending calls continue after a killed worker."""

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
    with installed(PAIRS[request.param], tmp_path, VODSYNC_VIDEO_INFO="on", VODSYNC_LEASE="5") as running:
        running.start_emulator("--media", "60")
        yield running


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
FETCHED = "vod_video_info WHERE observed_at IS NOT NULL AND available_at IS NULL"


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


def test_slow_video_info_calls_delay_no_batch_and_continue_after_a_kill(installation: Installation) -> None:
    set_fault(installation, slow={"probability": 1, "seconds": 3})
    start(installation)

    media_ids = notify_all(installation)
    wait_until_all(installation, STORED, within=20)
    fetched_before_kill = count(installation, FETCHED)
    installation.processes["worker"].kill()
    installation.emulator.delete("/faults").raise_for_status()
    start(installation, "worker-again")
    wait_until_all(installation, FETCHED, within=30)
    shown = [json.loads(installation.run("show", media_id, "--json").stdout) for media_id in media_ids[:3]]

    assert fetched_before_kill < 60
    for asset in shown:
        answer = asset["video_info"]["answer"]
        assert (asset["audit_status"], asset["region_id"]) == (answer["AuditStatus"] or None, answer["RegionId"])


def test_missing_video_info_permission_is_reported_and_stops_no_batch(installation: Installation) -> None:
    set_fault(installation, credentials={"probability": 1, "code": "Forbidden.RAM"})
    start(installation)

    notify_all(installation)
    wait_until_all(installation, STORED, within=20)
    problems = eventually(lambda: installation.http.get("/statusz").json()["problems"], within=10, missing="a problem")
    installation.emulator.delete("/faults").raise_for_status()
    installation.processes["worker"].stop()
    start(installation, "worker-again")

    assert [("GetVideoInfo" in problem, "RAM rights" in problem) for problem in problems] == [(True, True)]
    wait_until_all(installation, FETCHED, within=30)
    eventually(lambda: not installation.http.get("/statusz").json()["problems"], within=10, missing="an empty list of problems")


def test_all_video_info_is_stored_despite_api_errors(installation: Installation) -> None:
    kinds = ("reset", "truncated", "garbage", "http_500", "throttle")
    set_fault(installation, **{kind: {"probability": 0.1} for kind in kinds})
    start(installation)

    notify_all(installation)

    wait_until_all(installation, FETCHED, within=60)
