"""Two worker processes and a burst: few calls, full ones, and nothing lost when one of them is killed."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import httpx
import pytest

from tests.system.installation import PAIRS, Installation, installed, signed
from tests.system.processes import eventually

MEDIA = 600
EVENTS = ("FileUploadComplete", "VideoAnalysisComplete", "SnapshotComplete", "StreamTranscodeComplete", "TranscodeComplete")


@contextmanager
def two_workers(pair: str, folder: Path, *emulator: str, **settings: str) -> Iterator[Installation]:
    with installed(PAIRS[pair], folder, **settings) as ready:
        ready.start_emulator("--media", str(MEDIA), *emulator)
        ready.start("receiver", "serve")
        ready.start("worker-1", "work", "--beat")
        ready.start("worker-2", "work")
        ready.wait_until_ready()
        eventually(lambda: len(ready.http.get("/statusz").json()["workers"]) == 2, within=15, missing="the second worker's heartbeat")
        yield ready


def burst(installation: Installation, media_ids: list[str]) -> None:
    """Each medium's notifications together, medium after medium, over several connections at once."""
    waiting = iter(media_ids)
    lock = threading.Lock()
    refused: list[int] = []

    def send() -> None:
        with httpx.Client(base_url=installation.url, timeout=10, trust_env=False) as client:
            while True:
                with lock:
                    chunk = list(islice(waiting, 5))
                if not chunk:
                    return
                for media_id in chunk:
                    for event in EVENTS:
                        body = {"EventType": event, "EventTime": "2025-11-24T16:00:05Z", "Status": "success", "VideoId": media_id}
                        content = json.dumps(body).encode()
                        answer = client.post("/callbacks", content=content, headers=signed(content, url=installation.callback_url))
                        if answer.status_code != 200:
                            refused.append(answer.status_code)

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert refused == []


def library(installation: Installation) -> list[str]:
    media_ids: list[str] = installation.emulator.get(f"/media?limit={MEDIA}").json()["media_ids"]
    return media_ids


def assert_all_arrived(installation: Installation, media_ids: list[str], *, within: float) -> None:
    eventually(
        lambda: not installation.database.count("vod_sync_request"),
        within=within,
        missing=lambda: f"{installation.database.count('vod_sync_request')} media, for instance "
        f"{installation.database.rows('SELECT * FROM vod_sync_request LIMIT 2')}; logs:\n{installation.logs()[-2000:]}",
    )
    record = installation.emulator.post("/record", json=media_ids).json()["media"]
    titles = {row["media_id"]: row["title"] for row in installation.database.table("vod_media")}
    streams = {(row["media_id"], row["job_id"]) for row in installation.database.rows("SELECT media_id, job_id FROM vod_play_info")}
    assert titles == {media_id: element["MediaInfo"]["Title"].strip() for media_id, element in record.items()}
    assert streams == {(media_id, play["JobId"]) for media_id, element in record.items() for play in element.get("PlayInfoList") or []}
    assert installation.database.count("vod_notification") == len(media_ids) * len(EVENTS)


@pytest.mark.parametrize("pair", ["postgresql-rabbitmq", "mariadb-redis"])
def test_a_burst_costs_hardly_more_calls_than_it_has_to(tmp_path: Path, pair: str) -> None:
    with two_workers(pair, tmp_path) as installation:
        media_ids = library(installation)

        burst(installation, media_ids)
        assert_all_arrived(installation, media_ids, within=30)

        calls = installation.calls()
        assert calls["calls"] <= math.ceil(MEDIA / 20) * 1.15, calls
        assert calls["largest_batch"] == 20
        assert (calls["repeated_in_call"], calls["throttled"], calls["errors"]) == (0, 0, 0)
        assert calls["busiest_second"] <= 20


@pytest.mark.parametrize("pair", list(PAIRS))
def test_a_killed_worker_loses_nothing(tmp_path: Path, pair: str) -> None:
    with two_workers(pair, tmp_path, "--latency", "0.2", VODSYNC_LEASE="3") as installation:
        media_ids = library(installation)

        burst(installation, media_ids)
        eventually(lambda: installation.calls()["calls"] >= 4, within=10, missing="the first calls")
        installation.processes["worker-1"].kill()
        killed_at = time.monotonic()
        held = installation.database.value("SELECT count(*) FROM vod_sync_request")
        assert_all_arrived(installation, media_ids, within=30)

        assert held > 0, "the kill came too late to prove anything"
        assert time.monotonic() - killed_at < 20
        assert installation.calls()["repeated_in_call"] == 0
