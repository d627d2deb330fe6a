"""Two worker processes and a burst: few and full calls, and nothing is lost if one worker is killed."""

from __future__ import annotations

import http.client
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import monotonic_clock
from tests.system.installation import PAIRS, Installation, installed, signed
from tests.system.processes import eventually

SENDERS = 8  # connections of a burst

EVENTS = ("FileUploadComplete", "VideoAnalysisComplete", "SnapshotComplete", "StreamTranscodeComplete", "TranscodeComplete")


@contextmanager
def installation_of(pair: str, folder: Path, *emulator: str, **settings: str) -> Iterator[Installation]:
    """Emulator and receiver. No worker runs yet."""
    with installed(PAIRS[pair], folder, **settings) as installation:
        installation.start_emulator("--media", "600", *emulator)
        installation.start("receiver", "serve")
        installation.wait_until_ready()
        yield installation


def start_two_workers(installation: Installation) -> None:
    installation.start("worker-1", "work", "--beat")
    installation.start("worker-2", "work")
    eventually(
        lambda: len(installation.http.get("/statusz").json()["workers"]) == 2, within=15, missing="the heartbeats of two workers"
    )


def burst(installation: Installation, media_ids: list[str]) -> None:
    """Send all notifications of each asset together, asset after asset, over several connections at once."""
    remaining = iter(media_ids)
    lock = threading.Lock()
    refused: list[int] = []

    def send() -> None:
        # httpx would need more time for sending than vodsync for receiving.
        client = http.client.HTTPConnection("127.0.0.1", installation.port, timeout=10)
        while True:
            with lock:
                media_id = next(remaining, None)
            if media_id is None:
                client.close()
                return
            for event in EVENTS:
                body = {"EventType": event, "EventTime": "2025-11-24T16:00:05Z", "Status": "success", "VideoId": media_id}
                content = json.dumps(body).encode()
                client.request("POST", "/callbacks", content, signed(content, url=installation.callback_url))
                response = client.getresponse()
                response.read()
                if response.status != 200:
                    refused.append(response.status)

    senders = [threading.Thread(target=send) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert refused == []


def library(installation: Installation, count: int) -> list[str]:
    media_ids: list[str] = installation.emulator.get(f"/media?limit={count}").json()["media_ids"]
    return media_ids


def assert_all_arrived(installation: Installation, media_ids: list[str], *, within: float) -> None:
    eventually(
        lambda: not installation.database.value("SELECT count(*) FROM vod_sync_request WHERE waits = 0"),
        within=within,
        missing=lambda: (
            f"{installation.database.count('vod_sync_request')} media, for instance "
            f"{installation.database.rows('SELECT * FROM vod_sync_request LIMIT 2')}; logs:\n{installation.logs()[-2000:]}"
        ),
    )
    record = installation.emulator.post("/record", json=media_ids).json()["media"]
    titles = {row["media_id"]: row["title"] for row in installation.database.table("vod_media")}
    streams = {(row["media_id"], row["job_id"]) for row in installation.database.table("vod_play_info")}
    assert titles == {media_id: element["MediaInfo"]["Title"].strip() for media_id, element in record.items()}
    assert streams == {
        (media_id, play["JobId"]) for media_id, element in record.items() for play in element.get("PlayInfoList") or []
    }
    assert installation.database.count("vod_notification") == len(media_ids) * len(EVENTS)


@pytest.mark.parametrize("pair", ["postgresql-rabbitmq", "mariadb-redis"])
def test_backlog_costs_one_fetch_per_asset_in_full_calls(tmp_path: Path, pair: str) -> None:
    with installation_of(pair, tmp_path) as installation:
        media_ids = library(installation, 200)
        burst(installation, media_ids)

        start_two_workers(installation)
        assert_all_arrived(installation, media_ids, within=30)

        calls = installation.calls()
        assert (calls["calls"], calls["media_ids"], calls["largest_batch"]) == (10, 200, 20)
        assert (calls["repeated_in_call"], calls["throttled"], calls["errors"]) == (0, 0, 0)


def test_burst_repeats_only_assets_whose_notifications_still_arrive(tmp_path: Path) -> None:
    # A long linger: on a busy machine the senders are slower than the workers, which would then make calls that are not full.
    with installation_of("postgresql-rabbitmq", tmp_path, VODSYNC_LINGER_MS="1000") as installation:
        media_ids = library(installation, 600)
        start_two_workers(installation)

        burst(installation, media_ids)
        assert_all_arrived(installation, media_ids, within=30)

        # An asset that is claimed between two of its notifications is fetched twice. Each sender has one such asset at a time.
        calls = installation.calls()
        assert calls["calls"] <= math.ceil(600 / (20 - SENDERS)), calls
        assert calls["busiest_second"] <= 20
        assert (calls["largest_batch"], calls["repeated_in_call"], calls["throttled"], calls["errors"]) == (20, 0, 0, 0)


@pytest.mark.parametrize("pair", list(PAIRS))
def test_killed_worker_loses_nothing(tmp_path: Path, pair: str) -> None:
    with installation_of(pair, tmp_path, "--latency", "0.5", VODSYNC_LEASE="3") as installation:
        media_ids = library(installation, 200)
        start_two_workers(installation)

        burst(installation, media_ids)
        eventually(lambda: installation.calls()["calls"] >= 4, within=10, missing="the first calls")
        installation.processes["worker-1"].kill()
        killed_at = monotonic_clock.seconds()
        due_at_kill = installation.database.count("vod_sync_request")
        assert_all_arrived(installation, media_ids, within=20)

        assert due_at_kill > 0, "the worker was killed after it had finished"
        assert monotonic_clock.seconds() - killed_at < 3 + 5, "the lease and a few seconds are enough until the next claim"
        assert installation.calls()["repeated_in_call"] == 0
