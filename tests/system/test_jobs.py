"""Jobs from the command line: start, progress, pause, cancel, exit codes and output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.installation import PAIRS, Installation, installed
from tests.system.processes import eventually

DONE = 0
FAILED = 1
USAGE = 2

MEDIA = 150


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An emulated library of which nothing is stored. No role runs yet."""
    with installed(PAIRS["sqlite-embedded"], tmp_path, VODSYNC_MAX_ATTEMPTS="1") as installation:
        installation.start_emulator("--media", str(MEDIA), notify=False)
        yield installation


def jobs(installation: Installation) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads(installation.run("jobs", "list", "--json").stdout)
    return jobs


def test_same_job_is_not_started_twice_and_other_parameters_are_refused(installation: Installation) -> None:
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
def test_contradictory_arguments_are_a_usage_error(installation: Installation, arguments: str, sentence: str) -> None:
    refused = installation.run(*arguments.split())

    assert refused.returncode == USAGE, refused.stderr
    assert sentence in refused.stderr
    assert jobs(installation) == []


def test_job_is_paused_resumed_and_cancelled_by_command(installation: Installation) -> None:
    installation.run("backfill")
    (job,) = jobs(installation)
    number = str(job["id"])

    pause_codes = [installation.run("jobs", "pause", number).returncode for _ in range(2)]
    installation.start("worker", "work")
    eventually(lambda: "worker started" in installation.processes["worker"].log, within=20, missing="a worker")
    while_paused = installation.run("jobs", "show", number, "--json")
    resume_codes = [installation.run("jobs", "resume", number).returncode for _ in range(2)]
    done = installation.run("backfill", "--wait", "--json")
    cancelled = installation.run("jobs", "cancel", number)
    unknown = installation.run("jobs", "show", "4711")

    assert pause_codes == resume_codes == [DONE, FAILED]
    assert (json.loads(while_paused.stdout)["state"], json.loads(while_paused.stdout)["counters"]) == ("paused", {})
    assert done.returncode == DONE, done.stderr
    assert (cancelled.returncode, unknown.returncode) == (FAILED, FAILED)
    assert "has already ended" in cancelled.stderr
    assert "vodsync jobs list" in unknown.stderr


def test_job_progress_is_printed_as_json_lines_or_text(installation: Installation) -> None:
    installation.start("worker", "work")

    counted = installation.run("backfill", "--dry-run", "--wait", "--json")
    loaded = installation.run("backfill", "--wait", "--json")
    again = installation.run("backfill", "--wait")

    assert (counted.returncode, loaded.returncode, again.returncode) == (DONE, DONE, DONE), loaded.stderr
    lines = [json.loads(line) for line in loaded.stdout.splitlines()]
    assert all({"id", "state", "counters", "media_per_second", "seconds_left"} <= line.keys() for line in lines)
    expected = {"total": MEDIA, "listed": MEDIA, "known": 0, "requested": MEDIA}
    assert json.loads(counted.stdout.splitlines()[-1])["counters"] == expected
    assert lines[-1]["counters"] == expected | {"fetched": MEDIA}
    assert again.stdout == ""
    assert f"known: {MEDIA}, requested: 0" in again.stderr


def test_job_with_dead_letters_ends_with_exit_code_1(installation: Installation) -> None:
    poisonous = installation.emulator.get("/media").json()["media_ids"][:2]
    installation.emulator.put("/faults", json={"poisonous": poisonous}).raise_for_status()
    installation.start("worker", "work")

    result = installation.run("backfill", "--wait", "--json")

    assert result.returncode == FAILED, result.stderr
    assert "2 media became dead letters; list them with: vodsync failures list" in result.stderr
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["state"] == "done"
    assert {name: last["counters"][name] for name in ("requested", "fetched", "dead")} == {
        "requested": MEDIA,
        "fetched": MEDIA - 2,
        "dead": 2,
    }
