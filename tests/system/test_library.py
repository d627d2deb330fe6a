"""Backfill of a whole library by workers that are killed meanwhile, then reconciliation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import eventually

#: More than twice the limit of SearchMedia, and not a whole number of pages.
MEDIA = 12_345

OK = "SELECT count(*) FROM vod_media WHERE state = 'ok'"


@pytest.fixture(params=list(PAIRS))
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """An emulated library of which nothing is stored. No role runs yet."""
    with installed(
        PAIRS[request.param], tmp_path, VODSYNC_LEASE="3", VODSYNC_API_QPS="1000", VODSYNC_SEARCH_QPS="1000"
    ) as installation:
        installation.start_emulator("--media", str(MEDIA), "--qps", "10000", "--search-qps", "10000", notify=False)
        yield installation


def start_workers(installation: Installation, run: int) -> None:
    for number in (1, 2):
        installation.start(f"worker-{run}-{number}", "work")


def kill_workers(installation: Installation) -> None:
    for name in [name for name in installation.processes if name.startswith("worker")]:
        installation.processes.pop(name).kill()


def job(installation: Installation, *arguments: str, within: float = 120) -> dict[str, Any]:
    """Run a job to its end and return its last JSON line."""
    result = installation.run(*arguments, "--wait", "--json", within=within)
    assert result.returncode == 0, result.stderr
    job: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return job


def assert_as_on_record(installation: Installation, media_ids: list[str]) -> None:
    """Check that the stored answer of each asset equals the emulator's record."""
    record = installation.emulator.post("/record", json=media_ids).json()["media"]
    raw = {row["media_id"]: row["answer"] for row in installation.database.table("vod_raw")}
    for media_id in media_ids:
        answer = raw[media_id]
        assert (json.loads(answer) if isinstance(answer, str) else answer) == record[media_id]


def test_library_is_loaded_despite_killed_workers_and_then_repaired(installation: Installation) -> None:
    # Backfill with a kill of all workers
    start_workers(installation, 1)
    started = installation.run("backfill")
    eventually(
        lambda: installation.database.value(OK) > MEDIA / 3, within=60, missing=lambda: f"media; {installation.logs()[-3000:]}"
    )
    kill_workers(installation)
    stored_before_kill = installation.database.value(OK)
    start_workers(installation, 2)
    loaded = job(installation, "backfill")

    assert started.returncode == 0
    assert stored_before_kill < MEDIA
    assert (loaded["state"], loaded["counters"]["fetched"]) == ("done", loaded["counters"]["requested"])
    assert installation.database.value(OK) == MEDIA
    library: list[str] = installation.emulator.get(f"/media?limit={MEDIA}").json()["media_ids"]
    assert_as_on_record(installation, library[:50] + library[-50:])

    # Reconciliation after changes without notifications
    gone, changed = library[17], library[18]
    installation.emulator.post(f"/media/{gone}/delete", json={"DeleteType": "all", "notify": False}).raise_for_status()
    installation.emulator.post(f"/media/{changed}/change", json={"Title": "behind our back", "notify": False}).raise_for_status()
    uploads = installation.emulator.post("/uploads", json={"count": 5, "life_seconds": 0.1, "notify": False}).json()["media_ids"]
    repaired = job(installation, "reconcile", "--full")
    rows = {row["media_id"]: row for row in installation.database.rows("SELECT media_id, title, state, deleted_at FROM vod_media")}

    assert {name: repaired["counters"][name] for name in ("missed", "changed", "deleted")} == {
        "missed": 5,
        "changed": 1,
        "deleted": 1,
    }
    assert rows[gone]["state"] == "deleted"
    assert rows[gone]["deleted_at"] is not None
    assert rows[changed]["title"] == "behind our back"
    assert {rows[media_id]["state"] for media_id in uploads} == {"ok"}
    assert len(rows) == MEDIA + 5

    # Reconciliation without differences
    observed = installation.database.rows("SELECT media_id, observed_at FROM vod_media ORDER BY media_id")
    idle = job(installation, "reconcile", "--full")
    incremental = job(installation, "reconcile")
    assert idle["counters"]["missed"] == idle["counters"]["changed"] == 0
    assert incremental["counters"]["listed"] < 20
    assert installation.database.rows("SELECT media_id, observed_at FROM vod_media ORDER BY media_id") == observed


def test_notification_is_handled_before_backfill(tmp_path: Path) -> None:
    with installed(PAIRS["sqlite-embedded"], tmp_path, VODSYNC_API_QPS="5") as installation:
        installation.start_emulator("--media", str(MEDIA), notify=False)
        installation.start("receiver", "serve")
        start_workers(installation, 1)
        installation.wait_until_ready()
        installation.run("backfill")
        eventually(lambda: installation.database.value(OK) > 100, within=30, missing="a backfill on its way")
        last = installation.emulator.get(f"/media?offset={MEDIA - 1}&limit=1").json()["media_ids"][0]
        installation.notify(analysed(last))

        eventually(
            lambda: installation.database.rows("SELECT 1 AS one FROM vod_media WHERE media_id = :id AND state = 'ok'", id=last),
            within=10,
            missing="the asset that the notification named",
        )

        assert installation.database.value(OK) < MEDIA
        (running,) = json.loads(installation.run("jobs", "list", "--json").stdout)
        cancelled = installation.run("jobs", "cancel", str(running["id"]))
        assert (running["state"], cancelled.returncode) == ("running", 0)
