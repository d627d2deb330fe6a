"""Builders of media, notifications and requests. A test passes only the values that matter to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from worker.core import events
from worker.core.backoff import Backoff
from worker.core.media import Media
from worker.core.normalise import read_media
from worker.core.wait import Wait
from worker.store import Store
from worker.store.inbox.sync_requests import LIVE, Claim, Request, SyncRequests
from worker.sync.receive import delivery, receive
from worker.sync.retry_policy import RetryPolicy
from worker.sync.source_context import SourceContext, SyncSettings
from worker.vod import Vod

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

#: Quick, and with pauses that a test can predict.
SETTINGS = SyncSettings(calls_per_second=1000, retry=RetryPolicy(backoff=Backoff(SECOND, 300 * SECOND)))


def source_context(vod: Vod, settings: SyncSettings = SETTINGS, *, source: str = "default") -> SourceContext:
    return SourceContext(source, vod, settings)


def element(media_id: str, **media_info: Any) -> dict[str, Any]:
    """Return one analysed asset as VOD returns it: a video stream, an audio stream and one play stream."""
    return {
        "MediaId": media_id,
        "MediaInfo": {"MediaId": media_id, "Title": "Demo", "Status": "Normal", "Tags": "a, b", **media_info},
        "MezzanineInfo": {
            "MediaId": media_id,
            "Status": "Normal",
            "Size": 5_000_000_000,
            "Duration": "61.027",
            "VideoStreamList": [{"Index": "0", "CodecName": "h264", "Fps": "30000/1001"}],
            "AudioStreamList": [{"Index": "1", "CodecName": "aac", "SampleRate": "44100"}],
        },
        "PlayInfoList": [{"JobId": f"job-{media_id}", "Definition": "HD", "Encrypt": 1}],
    }


def announced(media_id: str, **media_info: Any) -> dict[str, Any]:
    """Return the same asset before VOD has analysed its file."""
    return {"MediaId": media_id, "MediaInfo": {"MediaId": media_id, "Title": "Demo", "Status": "Uploading", **media_info}}


def clip(media_id: str, **media_info: Any) -> Media:
    return typed(element(media_id, **media_info))


def typed(raw: dict[str, Any]) -> Media:
    media = read_media(raw)
    assert media is not None
    return media


def body(media_id: str, event: str = "VideoAnalysisComplete", **fields: Any) -> bytes:
    fields = {"EventType": event, "EventTime": "2026-03-01T12:00:00Z", "Status": "success", "VideoId": media_id, **fields}
    return msgspec.json.encode(fields)


def notify(store: Store, *media_ids: str, event: str = "VideoAnalysisComplete", now: datetime = NOON, **fields: Any) -> int:
    """Store one notification for each id, all in one commit. Return how many were new."""
    deliveries = [delivery("default", events.parse(body(media_id, event, **fields)), received_at=now) for media_id in media_ids]
    return receive(store, deliveries, now=now)


def request(
    store: Store, *media_ids: str, priority: int = LIVE, now: datetime = NOON, source: str = "default", reason: str = "test"
) -> None:
    requests = [Request(source, media_id, reason, priority) for media_id in media_ids]
    store.transact(lambda connection: SyncRequests(connection).request(requests, now=now))


def claim(
    store: Store,
    *,
    now: datetime = NOON + SECOND,
    limit: int = 20,
    lease: timedelta = timedelta(minutes=1),
    linger: timedelta = timedelta(milliseconds=250),
    source: str = "default",
) -> Claim | Wait | None:
    return store.transact(
        lambda connection: SyncRequests(connection).claim(source, limit=limit, now=now, lease=lease, linger=linger)
    )


def claimed(*arguments: Any, **options: Any) -> Claim:
    """As `claim`, if something is due."""
    result = claim(*arguments, **options)
    assert isinstance(result, Claim), result
    return result


class Log:
    """A logger that records the phrases."""

    def __init__(self) -> None:
        self.phrases: list[str] = []

    def record(self, phrase: str, **_: Any) -> None:
        self.phrases.append(phrase)

    info = warning = error = record
