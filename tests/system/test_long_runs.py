"""Sync by filter, renormalise, replay and retention."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import eventually

DONE = 0
FAILED = 1
USAGE = 2


@pytest.fixture(scope="module", params=["sqlite-embedded", "postgresql-rabbitmq"])
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that has stored its library of 60 assets."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    with installed(PAIRS[request.param], folder) as running:
        running.start_emulator("--media", "60")
        running.start("receiver", "serve")
        running.start("worker-1", "work", "--beat")
        running.start("worker-2", "work")
        running.wait_until_ready()
        synced = running.run("sync", "-", "--wait", stdin="\n".join(library(running)))
        assert synced.returncode == DONE, synced.stderr
        yield running


def library(installation: Installation) -> list[str]:
    media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
    return media_ids


def output(installation: Installation, *arguments: str) -> Any:
    """Run a command that succeeds and return its JSON, or the last line if it prints several."""
    result = installation.run(*arguments, "--json")
    assert result.returncode == DONE, result.stderr
    return json.loads(result.stdout if result.stdout.startswith("{\n") else result.stdout.splitlines()[-1])


def spoil(installation: Installation, media_id: str) -> None:
    installation.database.do(f"UPDATE vod_media SET title = 'Wrong', content_hash = 'wrong' WHERE media_id = '{media_id}'")


def title(installation: Installation, media_id: str) -> str:
    return str(installation.database.value("SELECT title FROM vod_media WHERE media_id = :id", id=media_id))


def test_sync_accepts_filters_on_stored_assets(installation: Installation) -> None:
    first, second = library(installation)[:2]
    spoil(installation, first)
    spoil(installation, second)
    codec = installation.database.value("SELECT min(codec_name) FROM vod_video_stream")
    with_codec = installation.database.value(
        "SELECT count(DISTINCT media_id) FROM (SELECT media_id, codec_name FROM vod_video_stream UNION ALL"
        " SELECT media_id, codec_name FROM vod_audio_stream UNION ALL SELECT media_id, codec_name FROM vod_play_info) AS streams"
        " WHERE codec_name = :codec",
        codec=codec,
    )

    counted = output(installation, "sync", "--where", "title=Wrong", "--where", "state=ok", "--dry-run")
    none = output(installation, "sync", "--where", "title=Wrong", "--older-than", "1h")
    of_codec = output(installation, "sync", "--codec", codec.upper(), "--dry-run")
    title_after_dry_run = title(installation, first)
    synced = output(installation, "sync", "--where", "title=Wrong", "--priority", "backfill", "--wait")

    assert (counted["requested"], none["requested"], of_codec["requested"]) == (2, 0, with_codec)
    assert title_after_dry_run == "Wrong"
    assert (synced["requested"], synced["ok"], synced["failures"]) == (2, 2, [])
    assert "Wrong" not in (title(installation, first), title(installation, second))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--where colour=red", "storage_class"),
        ("--where state", "FIELD=VALUE"),
        ("--where state=fine", "missing"),
        ("--where cate_id=x", "number"),
        ("--older-than long", "30d"),
        ("--unreadable some-id", "filters"),
        ("--unreadable --reference-ids", "--reference-ids"),
        ("some-id --priority high", "manual"),
    ],
)
def test_invalid_filter_is_a_usage_error(installation: Installation, arguments: str, sentence: str) -> None:
    refused = installation.run("sync", *arguments.split())

    assert refused.returncode == USAGE, refused.stderr
    assert sentence in refused.stderr


def test_renormalise_repairs_rows_without_vod_calls(installation: Installation) -> None:
    media_id = library(installation)[2]
    before = title(installation, media_id)
    calls = installation.calls()["calls"]
    spoil(installation, media_id)

    counted = output(installation, "renormalise", "--dry-run")
    done = output(installation, "renormalise", "--wait")

    assert counted == {"read": 60, "changed": 1}
    assert (done["state"], done["counters"]) == ("done", {"read": 60, "changed": 1, "total": 60})
    assert title(installation, media_id) == before
    assert installation.calls()["calls"] == calls


def test_replay_fetches_again_what_notifications_named(installation: Installation) -> None:
    notified, other = library(installation)[3:5]
    installation.notify(analysed(notified))
    installation.notify(analysed(other) | {"EventType": "TranscodeComplete"})
    installation.wait_until_synced()
    spoil(installation, notified)
    spoil(installation, other)
    deliveries = installation.database.rows("SELECT id, deliveries FROM vod_notification ORDER BY id")
    filters = ("--type", "VideoAnalysisComplete", "--media-id", notified)

    unknown = output(installation, "replay", "--type", "NobodyKnowsThis", "--wait")
    future = output(installation, "replay", "--since", "2100-01-01", "--dry-run")
    counted = output(installation, "replay", *filters, "--dry-run")
    done = output(installation, "replay", *filters, "--wait")
    eventually(lambda: title(installation, notified) != "Wrong", within=15, missing="the asset that the notification named")

    assert (unknown["counters"]["matched"], future["matched"]) == (0, 0)
    assert (counted, done["counters"]) == ({"matched": 1, "requested": 1}, {"matched": 1, "requested": 1})
    assert title(installation, other) == "Wrong"
    assert installation.database.rows("SELECT id, deliveries FROM vod_notification ORDER BY id") == deliveries
    assert installation.run("replay", "--since", "yesterday").returncode == USAGE


def test_worker_deletes_old_notifications(installation: Installation) -> None:
    installation.notify(analysed("gone", EventTime="2020-01-01T00:00:00Z"))
    eventually(
        lambda: not installation.database.rows("SELECT 1 FROM vod_sync_request WHERE media_id = 'gone' AND waits = 0"),
        within=15,
        missing="the result that VOD does not know the asset",
    )
    installation.database.do("DELETE FROM vod_sync_request WHERE media_id = 'gone'")
    installation.database.do("UPDATE vod_notification SET received_at = '2020-01-01 00:00:00' WHERE media_id = 'gone'")
    installation.database.do("UPDATE vod_schedule SET due_at = '2020-01-01 00:00:00' WHERE name = 'retention'")

    installation.start("worker-3", "work")

    eventually(
        lambda: not installation.database.rows("SELECT 1 FROM vod_notification WHERE media_id = 'gone'"),
        within=20,
        missing=lambda: f"a deleted notification; logs:\n{installation.logs()[-3000:]}",
    )
    eventually(lambda: "notifications pruned" in installation.logs(), within=5, missing="the line in the log")
