"""How long runs are started, followed, stopped, and how they end: exit codes, sentences and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.installation import PAIRS, Installation, installed
from tests.system.processes import eventually

DONE, FAILED, USAGE = range(3)

MEDIA = 150


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A library of which nothing is stored; no role runs yet."""
    with installed(PAIRS["sqlite-embedded"], tmp_path, VODSYNC_MAX_ATTEMPTS="1") as ready:
        ready.start_emulator("--media", str(MEDIA), telling=False)
        yield ready


def jobs(installation: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(installation.run("jobs", "list", "--json").stdout)
    return found


def test_a_second_start_finds_the_first_and_other_parameters_fail(installation: Installation) -> None:
    first = installation.run("backfill", "--since", "2020-01-01T08:00:00+08:00")
    same = installation.run("backfill", "--since", "2020-01-01")
    other = installation.run("backfill", "--since", "2021-01-01")

    assert (first.returncode, same.returncode, other.returncode) == (DONE, DONE, FAILED)
    (job,) = jobs(installation)
    assert job["parameters"]["since"] == "2020-01-01T00:00:00+00:00"
    assert "already exists" in same.stderr
    assert f"vodsync jobs cancel {job['id']}" in other.stderr
    assert "nothing was started" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("backfill --since 2026-02-01 --until 2026-01-31", "--since is later than --until"),
        ("backfill --since 2026-02-01T00:00:00+08:00 --until 2026-01-31T15:59:59Z", "--since is later than --until"),
        ("backfill --since yesterday", "2026-01-31"),
        ("backfill --type film", "video,audio"),
        ("backfill --status Normal,1", "Normal,Blocked"),
        ("replay --since 2026-02-01 --until 2026-01-31", "--since is later than --until"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(installation: Installation, arguments: str, sentence: str) -> None:
    refused = installation.run(*arguments.split())

    assert refused.returncode == USAGE, refused.stderr
    assert sentence in refused.stderr
    assert jobs(installation) == []


def test_a_job_rests_goes_on_and_ends_on_command(installation: Installation) -> None:
    installation.run("backfill")
    (job,) = jobs(installation)
    number = str(job["id"])

    paused = [installation.run("jobs", "pause", number).returncode for _ in range(2)]
    installation.start("worker", "work")
    eventually(lambda: "worker started" in installation.processes["worker"].log, within=20, missing="a worker")
    rested = installation.run("jobs", "show", number, "--json")
    resumed = [installation.run("jobs", "resume", number).returncode for _ in range(2)]
    done = installation.run("backfill", "--wait", "--json")
    cancelled = installation.run("jobs", "cancel", number)
    unknown = installation.run("jobs", "show", "4711")

    assert paused == resumed == [DONE, FAILED]
    assert (json.loads(rested.stdout)["state"], json.loads(rested.stdout)["counters"]) == ("paused", {})
    assert done.returncode == DONE, done.stderr
    assert (cancelled.returncode, unknown.returncode) == (FAILED, FAILED)
    assert "has already ended" in cancelled.stderr
    assert "vodsync jobs list" in unknown.stderr


def test_programs_read_a_line_each_time_and_people_a_sentence(installation: Installation) -> None:
    installation.start("worker", "work")

    counted = installation.run("backfill", "--dry-run", "--wait", "--json")
    loaded = installation.run("backfill", "--wait", "--json")
    again = installation.run("backfill", "--wait")

    assert (counted.returncode, loaded.returncode, again.returncode) == (DONE, DONE, DONE), loaded.stderr
    lines = [json.loads(line) for line in loaded.stdout.splitlines()]
    assert all({"id", "state", "counters", "media_per_second", "seconds_left"} <= line.keys() for line in lines)
    wanted = {"total": MEDIA, "listed": MEDIA, "known": 0, "requested": MEDIA}
    assert json.loads(counted.stdout.splitlines()[-1])["counters"] == wanted
    assert lines[-1]["counters"] == wanted | {"fetched": MEDIA}
    assert again.stdout == ""
    assert f"known: {MEDIA}, requested: 0" in again.stderr


def test_media_that_nobody_could_fetch_are_no_success(installation: Installation) -> None:
    poisonous = installation.emulator.get("/media").json()["media_ids"][:2]
    installation.emulator.put("/faults", json={"poisonous": poisonous}).raise_for_status()
    installation.start("worker", "work")

    ended = installation.run("backfill", "--wait", "--json")

    assert ended.returncode == FAILED, ended.stderr
    assert "2 media became dead letters; list them with: vodsync failures list" in ended.stderr
    last = json.loads(ended.stdout.splitlines()[-1])
    assert last["state"] == "done"
    assert {name: last["counters"][name] for name in ("requested", "fetched", "dead")} == {
        "requested": MEDIA,
        "fetched": MEDIA - 2,
        "dead": 2,
    }
