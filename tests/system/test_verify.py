"""`vodsync show --live` on each of the three databases."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.installation import Installation, Pair, installed
from tests.system.processes import clean_environment, run

DONE = 0
FAILED = 1
CONFIGURATION = 3
UNREACHABLE = 4


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    database = None if request.param == "sqlite" else request.param
    with installed(Pair(database, None), tmp_path) as running:
        running.start_emulator("--media", "3")
        yield running


def show_live(installation: Installation, media_id: str, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(installation.settings | settings, installation.folder)
    return run("show", "--live", media_id, *options, folder=installation.folder, environment=environment)


def test_show_live_prints_differences_and_exits_1_if_there_are_any(installation: Installation) -> None:
    first, second, third = installation.emulator.get("/media").json()["media_ids"]
    worker = installation.start("worker", "work")
    synced = installation.run("sync", first, second, "--wait")
    worker.stop()

    unchanged = show_live(installation, first)
    installation.emulator.post(f"/media/{first}/change", json={"Title": "Another [title]"}).raise_for_status()
    changed = show_live(installation, first)
    as_json = show_live(installation, first, "--json")
    installation.emulator.put("/faults", json={"gone": [second]}).raise_for_status()
    gone = show_live(installation, second)
    not_stored = show_live(installation, third)
    unknown = show_live(installation, "deadbeef")
    shown = json.loads(installation.run("show", first, "--json").stdout)

    assert synced.returncode == DONE, synced.stderr
    assert (unchanged.returncode, unchanged.stdout) == (DONE, "no difference; the state is ok\n"), (
        unchanged.stdout + unchanged.stderr
    )
    assert "region_id cn-" in unchanged.stderr
    assert changed.returncode == as_json.returncode == FAILED
    assert "Another [title]" in changed.stdout
    differences = {difference["field"]: difference for difference in json.loads(as_json.stdout)["differences"]}
    assert differences["title"] == {"field": "title", "stored": shown["title"], "at_vod": "Another [title]"}
    assert differences.keys() <= {"title", "modified_at"}
    assert (gone.returncode, "missing" in gone.stdout) == (FAILED, True)
    assert (not_stored.returncode, "VOD has it" in not_stored.stderr) == (FAILED, True)
    assert (unknown.returncode, "VOD does not know this id" in unknown.stderr) == (FAILED, True)
    assert installation.emulator.get("/calls").json()["GetVideoInfo"]["calls"] >= 4


def test_unavailable_vod_is_reported_in_one_line(installation: Installation) -> None:
    (media_id, *_) = installation.emulator.get("/media").json()["media_ids"]

    wrong_keys = show_live(installation, media_id, ALIBABA_CLOUD_ACCESS_KEY_SECRET="wrong")
    unreachable = show_live(installation, media_id, VODSYNC_ENDPOINT="http://127.0.0.1:9")
    installation.emulator.put("/faults", json={"throttle": {"probability": 1}}).raise_for_status()
    throttled = show_live(installation, media_id)

    assert (wrong_keys.returncode, unreachable.returncode, throttled.returncode) == (CONFIGURATION, UNREACHABLE, UNREACHABLE)
    assert "check its keys" in wrong_keys.stderr
    assert "Throttling" in throttled.stderr
    for result in (wrong_keys, unreachable, throttled):
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1, result.stderr
