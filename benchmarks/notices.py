"""What VOD sends, as the benchmarks need it: short, valid, and each a notification of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from benchmarks.load import MEDIA_ID

#: The notifications of one upload's life, in VOD's order (vod-protocol 2).
_LIFE = (
    {"EventType": "FileUploadComplete", "Size": 52_428_800, "FileUrl": "https://example.com/source.mp4"},
    {"EventType": "VideoAnalysisComplete", "Status": "success", "Width": 1920, "Height": 1080, "Duration": 61.4, "Fps": "25.0"},
    {"EventType": "SnapshotComplete", "Status": "success", "CoverUrl": "https://example.com/cover.jpg"},
    {"EventType": "StreamTranscodeComplete", "Status": "success", "Definition": "LD", "Format": "m3u8", "Bitrate": "412"},
    {"EventType": "StreamTranscodeComplete", "Status": "success", "Definition": "HD", "Format": "m3u8", "Bitrate": "1501"},
    {"EventType": "TranscodeComplete", "Status": "success"},
)


def body(media_id: str, event: int) -> str:
    """Notification number `event` (0 to 5) of the life of `media_id`."""
    said = {"EventTime": f"2026-01-05T10:00:{event:02d}Z", "VideoId": media_id, "UserId": 1234567890, **_LIFE[event]}
    return msgspec.json.encode(said).decode()


#: VideoAnalysisComplete with a place for the media id.
TEMPLATE = body(MEDIA_ID, 1)


def lives(media_ids: Sequence[str], *, shuffled: bool) -> list[str]:
    """All six notifications of each medium: the six of one after the other's, or in an order without order."""
    bodies = [body(media_id, event) for media_id in media_ids for event in range(len(_LIFE))]
    if shuffled:
        random.Random(1).shuffle(bodies)
    return bodies
