"""`vodsync show --live` as a person and a script meet it, on each of the three databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.installation import Installation, Pair, installed
from tests.system.processes import clean_environment, run

DONE, FAILED, _, CONFIGURATION, UNREACHABLE = range(5)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    database = None if request.param == "sqlite" else request.param
    with installed(Pair(database, None), tmp_path) as ready:
        ready.start_emulator("--media", "3")
        yield ready


def live(installation: Installation, media_id: str, *options: str, **settings: str) -> Any:
    environment = clean_environment(installation.settings | settings, installation.folder)
    return run("show", "--live", media_id, *options, folder=installation.folder, environment=environment)


def test_the_difference_between_the_rows_and_vod_is_shown_as_diff_shows_it(installation: Installation) -> None:
    first, second, third = installation.emulator.get("/media").json()["media_ids"]
    worker = installation.start("worker", "work")
    synced = installation.run("sync", first, second, "--wait")
    worker.stop()

    same = live(installation, first)
    installation.emulator.post(f"/media/{first}/change", json={"Title": "Another [title]"}).raise_for_status()
    changed = live(installation, first)
    as_json = live(installation, first, "--json")
    installation.emulator.put("/faults", json={"gone": [second]}).raise_for_status()
    gone = live(installation, second)
    not_stored = live(installation, third)
    unknown = live(installation, "deadbeef")
    shown = json.loads(installation.run("show", first, "--json").stdout)

    assert synced.returncode == DONE, synced.stderr
    assert (same.returncode, same.stdout) == (DONE, "no difference; the state is ok\n"), same.stdout + same.stderr
    assert "region_id cn-" in same.stderr
    assert changed.returncode == as_json.returncode == FAILED
    assert "Another [title]" in changed.stdout
    differences = {each["field"]: each for each in json.loads(as_json.stdout)["differences"]}
    assert differences["title"] == {"field": "title", "stored": shown["title"], "at_vod": "Another [title]"}
    assert differences.keys() <= {"title", "modified_at"}
    assert (gone.returncode, "missing" in gone.stdout) == (FAILED, True)
    assert (not_stored.returncode, "VOD has it" in not_stored.stderr) == (FAILED, True)
    assert (unknown.returncode, "VOD does not know this id" in unknown.stderr) == (FAILED, True)
    assert installation.emulator.get("/calls").json()["GetVideoInfo"]["calls"] >= 4


def test_a_vod_that_cannot_be_asked_is_said_in_one_sentence(installation: Installation) -> None:
    (media_id, *_) = installation.emulator.get("/media").json()["media_ids"]

    wrong_keys = live(installation, media_id, ALIBABA_CLOUD_ACCESS_KEY_SECRET="wrong")
    away = live(installation, media_id, VODSYNC_ENDPOINT="http://127.0.0.1:9")
    installation.emulator.put("/faults", json={"throttle": {"probability": 1}}).raise_for_status()
    throttled = live(installation, media_id)

    assert (wrong_keys.returncode, away.returncode, throttled.returncode) == (CONFIGURATION, UNREACHABLE, UNREACHABLE)
    assert "check its keys" in wrong_keys.stderr
    assert "Throttling" in throttled.stderr
    for said in (wrong_keys, away, throttled):
        assert said.stdout == ""
        assert len(said.stderr.splitlines()) == 1, said.stderr
