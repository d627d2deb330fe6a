"""Read answers of VOD in which only the fields of one test differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from worker.core.media import AudioStream, Media, Mezzanine, PlayInfo, VideoStream
from worker.core.normalise import read_media

DATA = Path(__file__).parent / "data"

#: The sample answer of vod-protocol 7.33.
SAMPLE_ANSWER: dict[str, Any] = json.loads((DATA / "skeleton.json").read_text())

#: An answer with every documented field of BatchGetMediaInfos and the irregularities of the vendor's sample.
FULL_ANSWER: dict[str, Any] = json.loads((DATA / "full_answer.json").read_text())


def read(element: dict[str, Any]) -> Media:
    """Return the asset "m" that is read from `element`."""
    media = read_media({"MediaId": "m"} | element)
    assert media is not None
    return media


def media_info(**fields: Any) -> Media:
    """Return the asset whose MediaInfo has these fields."""
    return read({"MediaInfo": fields})


def mezzanine(**fields: Any) -> Mezzanine:
    """Return the source file with these fields, all of them readable."""
    media = read({"MezzanineInfo": fields})
    assert media.unreadable == ()
    assert media.mezzanine is not None
    return media.mezzanine


def video_stream(**fields: Any) -> VideoStream:
    """Return the video stream with these fields, all of them readable."""
    media = read({"MezzanineInfo": {"VideoStreamList": [{"Index": "0"} | fields]}})
    assert media.unreadable == ()
    return media.video_streams[0]


def audio_stream(**fields: Any) -> AudioStream:
    """Return the audio stream with these fields, all of them readable."""
    media = read({"MezzanineInfo": {"AudioStreamList": [{"Index": "0"} | fields]}})
    assert media.unreadable == ()
    return media.audio_streams[0]


def play_info(**fields: Any) -> PlayInfo:
    """Return the play info with these fields, all of them readable."""
    media = read({"PlayInfoList": [{"JobId": "j"} | fields]})
    assert media.unreadable == ()
    return media.play_infos[0]


def unreadable_play_fields(**fields: Any) -> tuple[str, ...]:
    """Return the names of the fields that cannot be read in a play info with these fields, which has no other values."""
    media = read({"PlayInfoList": [{"JobId": "j"} | fields]})
    assert media.play_infos == (PlayInfo(job_id="j"),)
    return tuple(path.removeprefix("PlayInfoList[0].") for path in media.unreadable)
