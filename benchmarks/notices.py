"""Build short, valid and distinct notifications for the benchmarks."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from benchmarks.load import MEDIA_ID

#: The notifications of one upload in VOD's order (vod-protocol 2).
_EVENTS = (
    {"EventType": "FileUploadComplete", "Size": 52_428_800, "FileUrl": "https://example.com/source.mp4"},
    {"EventType": "VideoAnalysisComplete", "Status": "success", "Width": 1920, "Height": 1080, "Duration": 61.4, "Fps": "25.0"},
    {"EventType": "SnapshotComplete", "Status": "success", "CoverUrl": "https://example.com/cover.jpg"},
    {"EventType": "StreamTranscodeComplete", "Status": "success", "Definition": "LD", "Format": "m3u8", "Bitrate": "412"},
    {"EventType": "StreamTranscodeComplete", "Status": "success", "Definition": "HD", "Format": "m3u8", "Bitrate": "1501"},
    {"EventType": "TranscodeComplete", "Status": "success"},
)


def body(media_id: str, event: int) -> str:
    """Return notification number `event` (0 to 5) of `media_id`."""
    notification = {"EventTime": f"2026-01-05T10:00:{event:02d}Z", "VideoId": media_id, "UserId": 1234567890, **_EVENTS[event]}
    return msgspec.json.encode(notification).decode()


#: VideoAnalysisComplete with a placeholder for the media id.
TEMPLATE = body(MEDIA_ID, 1)


def upload_events(media_ids: Sequence[str], *, shuffled: bool) -> list[str]:
    """Return all six notifications of each asset, asset by asset or shuffled."""
    bodies = [body(media_id, event) for media_id in media_ids for event in range(len(_EVENTS))]
    if shuffled:
        random.Random(1).shuffle(bodies)
    return bodies
