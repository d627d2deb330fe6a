"""Make one finished media asset from a seed and an index.

The result is an element of MediaInfos with bare URLs and the types that vod-protocol 9.2 to 9.6 document. The same seed and index
always make the same element, so nothing needs to be stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.renditions import make_play_infos
from worker.emulator.library.seeded_random import PROBABILITY_STEPS, SeededRandom, draw
from worker.emulator.library.signed_urls import BUCKET_HOST, CDN_HOST, OPEN_HOST
from worker.emulator.library.source_files import SourceFile, make_audio_file, make_video_file
from worker.emulator.library.timestamps import format_utc

# A value that is listed several times is that much more likely.

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
#: Id and name; one of the ids does not fit into 32 bits (vod-protocol 7.25).
_CATEGORIES = ((0, ""), (12, "News"), (1000093721, "教育"), (9_876_543_210, "Archive 🗄"))
_TAGS = ("news", "sport, live", "教育,在线", "a, b,, c", "🎬", "")
_USER_DATA = (
    '{"Extend":{"tenant":"t1","note":"für später"}}',
    '{"Extend":"{\\"localId\\":\\"42\\"}"}',
    '{"Extend":{"🔑":"值"}}',
)
_STORAGE_CLASSES = ("Standard",) * 8 + ("IA", "Archive", "ColdArchive", "SourceIA", "SourceArchive", "Changing")
#: File extension and folder.
_VIDEO_FILES = (("mp4", "video"), ("mp4", "video"), ("mov", "video"), ("mkv", "video"), ("flv", "video"))
_AUDIO_FILES = (("mp3", "audio"), ("m4a", "audio"), ("wav", "audio"))
#: Transcoded streams of a finished asset.
_VIDEO_RENDITION_COUNTS = (1, 1, 2, 2, 3, 3, 4, 5, 8)
_AUDIO_RENDITION_COUNTS = (0, 1, 1, 2, 3)
#: The probability that an asset is a video; all others are audio.
_VIDEO_PROBABILITY = 0.86


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known about an asset before it is made."""

    is_video: bool
    #: Transcoded streams of the finished asset.
    stream_count: int
    #: One more transcoding job was started and failed.
    has_failed_stream: bool


@dataclass(frozen=True, slots=True)
class UntranscodedAsset:
    """A finished asset without its transcoded streams, and what is needed to make those."""

    media_info: JsonObject
    mezzanine: JsonObject
    outline: Outline
    file: SourceFile
    #: Already used for the fields above; the transcoded streams continue its draws.
    rng: SeededRandom
    #: The URLs have the host that needs no signature.
    open_domain: bool


def is_video(seed: int, index: int) -> bool:
    """Return True for a video, False for an audio."""
    return draw(PROBABILITY_STEPS, seed, index, "outline") < _VIDEO_PROBABILITY * PROBABILITY_STEPS


def videos_among(seed: int, indices: Iterable[int]) -> list[int]:
    """Return those of `indices` that are videos, in their order; a million take a few seconds."""
    # The same decision as is_video, made on the bytes that draw() reads, without converting them to numbers.
    threshold = (-((-int(_VIDEO_PROBABILITY * PROBABILITY_STEPS) << 32) // PROBABILITY_STEPS)).to_bytes(4, "big")
    shake, origin = hashlib.shake_128, b"0:%d:%%d:outline" % seed
    return [index for index in indices if shake(origin % index).digest(4) < threshold]


def make_outline(seed: int, index: int) -> Outline:
    """Return the kind of an asset and the number of its transcoded streams."""
    rng = SeededRandom(seed, index, "outline")
    video = rng.chance(_VIDEO_PROBABILITY)
    stream_count = rng.pick(_VIDEO_RENDITION_COUNTS if video else _AUDIO_RENDITION_COUNTS)
    return Outline(video, stream_count, video and rng.chance(0.05))


def make_untranscoded(
    seed: int, index: int, *, media_id: str, reference_id: str | None, created_at: float, life_seconds: float
) -> UntranscodedAsset:
    """Return an asset without its transcoded streams, in a third of the time that the whole asset takes.

    `created_at` is unix seconds; the last modification is `life_seconds` later.
    """
    outline = make_outline(seed, index)
    rng = SeededRandom(seed, index, "footage")
    analysed = make_video_file(rng) if outline.is_video else make_audio_file(rng)
    title = f"{rng.pick(_TITLES)} {index}"
    open_domain = rng.chance(0.2)
    media_info = _media_info(rng, outline, media_id, title, open_domain, created_at)
    media_info["ModificationTime"] = format_utc(created_at + life_seconds)
    if reference_id is not None:
        media_info["ReferenceId"] = reference_id
    extension, folder = rng.pick(_VIDEO_FILES if outline.is_video else _AUDIO_FILES)
    mezzanine = {
        "MediaId": media_id,
        "Status": "Normal",
        "FileName": f"{title[:40].replace('/', '_')}.{extension}",
        "FileURL": f"https://{BUCKET_HOST}/{folder}/{media_id[:8]}.{extension}",
        "FileMD5": rng.pick(("", "", rng.hex(32))),
        "CreationTime": format_utc(created_at),
        **analysed.fields,
        "VideoStreamList": analysed.video_streams,
        "AudioStreamList": analysed.audio_streams,
    }
    return UntranscodedAsset(media_info, mezzanine, outline, analysed.file, rng, open_domain)


def add_transcoded_streams(asset: UntranscodedAsset, *, created_at: float, life_seconds: float) -> JsonObject:
    """Return the finished element of MediaInfos. Call it once for each asset: it continues the draws of `asset.rng`.

    The streams finish one after the other within `life_seconds` after `created_at` (unix seconds).
    """
    media_id = asset.media_info["MediaId"]
    streams = make_play_infos(
        asset.rng,
        asset.file,
        media_id=media_id,
        template_group=asset.media_info.get("TemplateGroupId", ""),
        finished_at=[created_at + life_seconds * share for share in stream_shares(asset.outline.stream_count)],
        open_domain=asset.open_domain,
    )
    return {"MediaId": media_id, "MediaInfo": asset.media_info, "MezzanineInfo": asset.mezzanine, "PlayInfoList": streams}


def stream_shares(stream_count: int) -> list[float]:
    """Return when each transcoded stream is finished, as a share of the asset's life."""
    return [0.5 + 0.45 * (number + 1) / stream_count for number in range(stream_count)]


def _media_info(rng: SeededRandom, outline: Outline, media_id: str, title: str, open_domain: bool, created_at: float) -> JsonObject:
    host = f"http://{OPEN_HOST if open_domain else CDN_HOST}"
    category_id, category_name = rng.pick(_CATEGORIES)
    info: JsonObject = {
        "MediaId": media_id,
        "Title": title,
        "Description": rng.pick(_DESCRIPTIONS),
        "Status": "Normal",
        "CateId": category_id,
        "CateName": category_name,
        "Tags": rng.pick(_TAGS),
        "CoverURL": f"{host}/{media_id}/snapshots/cover.jpg" if outline.is_video else "",
        "Snapshots": [f"{host}/{media_id}/snapshots/{number:05d}.jpg" for number in range(1, 1 + rng.pick((0, 1, 2, 3)))]
        if outline.is_video
        else [],
        "CreationTime": format_utc(created_at),
        "ModificationTime": format_utc(created_at),
        "StorageLocation": BUCKET_HOST,
        "StorageClass": rng.pick(_STORAGE_CLASSES),
        "DownloadSwitch": rng.pick(("on", "off")),
        "TemplateGroupId": rng.hex(32),
        "AppId": rng.pick(("app-1000000", "app-1000000", "app-1000007")),
    }
    if info["StorageClass"].endswith("Archive"):
        info["RestoreStatus"] = rng.pick(("Processing", "Success", "Failed"))
        if info["RestoreStatus"] == "Success":
            info["RestoreExpiration"] = format_utc(created_at + 30 * 86_400)
    if rng.chance(0.3):
        info["UserData"] = rng.pick(_USER_DATA)
    return info
