"""What one medium looks like when it is finished, invented from a seed and an index.

The result is an element of MediaInfos typed as vod-protocol 9.2 to 9.6 document it, with bare URLs. The same origin always gives
the same element, so nothing has to be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from worker.emulator.library.clock import iso
from worker.emulator.library.links import BUCKET, CDN, OPEN
from worker.emulator.library.renditions import play_infos
from worker.emulator.library.seeded_random import SCALE, SeededRandom, roll
from worker.emulator.library.streams import Source, audio_source, video_source

_TITLES = (
    "Product launch",
    "季度回顾 · 第三集",
    "🎬 Behind the scenes 🎉",
    "Élodie à Zürich — café",
    "料理の基本 🍣",
    "مقابلة مع المخرج",
    "Robert'); DROP TABLE media;--",
    '<b>Bold</b> & "quoted" \\ back',
    "👩‍👩‍👧‍👦 family day 🏳️‍🌈",
    "An interview that goes on for so long that its title needs all of the 128 characters that the title of a video may have ✓",
)
_DESCRIPTIONS = ("", "", "Recorded in one take.", "第一行\n第二行 😀", "Rights: internal use only")
#: One of them does not fit into 32 bits (vod-protocol 7.25).
_CATEGORIES = ((0, ""), (12, "News"), (1000093721, "教育"), (9_876_543_210, "Archive 🗄"))
_TAGS = ("news", "sport, live", "教育,在线", "a, b,, c", "🎬", "")
_USER_DATA = (
    '{"Extend":{"tenant":"t1","note":"für später"}}',
    '{"Extend":"{\\"localId\\":\\"42\\"}"}',
    '{"Extend":{"🔑":"值"}}',
)
_STORAGE = ("Standard",) * 8 + ("IA", "Archive", "ColdArchive", "SourceIA", "SourceArchive", "Changing")
_FILES = (("mp4", "video"), ("mp4", "video"), ("mov", "video"), ("mkv", "video"), ("flv", "video"))
_AUDIO_FILES = (("mp3", "audio"), ("m4a", "audio"), ("wav", "audio"))
_VIDEO_STREAM_COUNTS = (1, 1, 2, 2, 3, 3, 4, 5, 8)
_AUDIO_STREAM_COUNTS = (0, 1, 1, 2, 3)
#: The share of media that can be seen; the others are only heard.
_VIDEOS = 0.86


@dataclass(frozen=True, slots=True)
class Outline:
    """What can be said of a medium without making all of it."""

    video: bool
    #: Transcoded streams it ends with.
    streams: int
    #: Whether one more stream was ordered that could not be made.
    failed_stream: bool


@dataclass(frozen=True, slots=True)
class Sketch:
    """A finished medium but for its transcoded streams, and what those need to be made."""

    media_info: dict[str, Any]
    mezzanine: dict[str, Any]
    plan: Outline
    source: Source
    dice: SeededRandom
    open_domain: bool


def is_video(seed: int, index: int) -> bool:
    """False where the medium is only heard."""
    return roll(SCALE, seed, index, "outline") < _VIDEOS * SCALE


def videos_among(seed: int, indices: Iterable[int]) -> list[int]:
    """Those of `indices` that are videos, in their order; a million take a few seconds."""
    # The bytes that roll() reads, compared without turning them into numbers.
    below = (-((-int(_VIDEOS * SCALE) << 32) // SCALE)).to_bytes(4, "big")
    shake, origin = hashlib.shake_128, b"0:%d:%%d:outline" % seed
    return [index for index in indices if shake(origin % index).digest(4) < below]


def outline(seed: int, index: int) -> Outline:
    dice = SeededRandom(seed, index, "outline")
    video = dice.chance(_VIDEOS)
    streams = dice.pick(_VIDEO_STREAM_COUNTS if video else _AUDIO_STREAM_COUNTS)
    return Outline(video, streams, video and dice.chance(0.05))


def sketch(seed: int, index: int, *, media_id: str, reference_id: str | None, created_at: float, life_seconds: float) -> Sketch:
    """All but the transcoded streams, which are most of the work; `created_at` is unix seconds."""
    plan = outline(seed, index)
    dice = SeededRandom(seed, index, "footage")
    source, facts, videos, audios = video_source(dice) if plan.video else audio_source(dice)
    title = f"{dice.pick(_TITLES)} {index}"
    open_domain = dice.chance(0.2)
    media_info = _media_info(dice, plan, media_id, title, open_domain, created_at)
    media_info["ModificationTime"] = iso(created_at + life_seconds)
    if reference_id is not None:
        media_info["ReferenceId"] = reference_id
    extension, folder = dice.pick(_FILES if plan.video else _AUDIO_FILES)
    mezzanine = {
        "MediaId": media_id,
        "Status": "Normal",
        "FileName": f"{title[:40].replace('/', '_')}.{extension}",
        "FileURL": f"https://{BUCKET}/{folder}/{media_id[:8]}.{extension}",
        "FileMD5": dice.pick(("", "", dice.hex(32))),
        "CreationTime": iso(created_at),
        **facts,
        "VideoStreamList": videos,
        "AudioStreamList": audios,
    }
    return Sketch(media_info, mezzanine, plan, source, dice, open_domain)


def shoot(drawn: Sketch, *, created_at: float, life_seconds: float) -> dict[str, Any]:
    """The finished element, once for each sketch; transcoding spreads over `life_seconds` from `created_at` (unix seconds) on."""
    media_id = drawn.media_info["MediaId"]
    streams = play_infos(
        drawn.dice,
        drawn.source,
        media_id=media_id,
        template_group=drawn.media_info.get("TemplateGroupId", ""),
        finished_at=[created_at + life_seconds * share for share in stream_shares(drawn.plan.streams)],
        open_domain=drawn.open_domain,
    )
    return {"MediaId": media_id, "MediaInfo": drawn.media_info, "MezzanineInfo": drawn.mezzanine, "PlayInfoList": streams}


def stream_shares(streams: int) -> list[float]:
    """The part of a life that is over when each transcoded stream is finished."""
    return [0.5 + 0.45 * (number + 1) / streams for number in range(streams)]


def _media_info(
    dice: SeededRandom, plan: Outline, media_id: str, title: str, open_domain: bool, created_at: float
) -> dict[str, Any]:
    host = f"http://{OPEN if open_domain else CDN}"
    category, category_name = dice.pick(_CATEGORIES)
    info: dict[str, Any] = {
        "MediaId": media_id,
        "Title": title,
        "Description": dice.pick(_DESCRIPTIONS),
        "Status": "Normal",
        "CateId": category,
        "CateName": category_name,
        "Tags": dice.pick(_TAGS),
        "CoverURL": f"{host}/{media_id}/snapshots/cover.jpg" if plan.video else "",
        "Snapshots": [f"{host}/{media_id}/snapshots/{number:05d}.jpg" for number in range(1, 1 + dice.pick((0, 1, 2, 3)))]
        if plan.video
        else [],
        "CreationTime": iso(created_at),
        "ModificationTime": iso(created_at),
        "StorageLocation": BUCKET,
        "StorageClass": dice.pick(_STORAGE),
        "DownloadSwitch": dice.pick(("on", "off")),
        "TemplateGroupId": dice.hex(32),
        "AppId": dice.pick(("app-1000000", "app-1000000", "app-1000007")),
    }
    if info["StorageClass"].endswith("Archive"):
        info["RestoreStatus"] = dice.pick(("Processing", "Success", "Failed"))
        if info["RestoreStatus"] == "Success":
            info["RestoreExpiration"] = iso(created_at + 30 * 86_400)
    if dice.chance(0.3):
        info["UserData"] = dice.pick(_USER_DATA)
    return info
