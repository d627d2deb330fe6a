"""Make the streams that transcoding produces from a source file: PlayInfo as vod-protocol 9.6 documents it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.seeded_random import SeededRandom
from worker.emulator.library.signed_urls import CDN_HOST, OPEN_HOST
from worker.emulator.library.source_files import SourceFile, format_kbps
from worker.emulator.library.timestamps import format_utc


class Rendition(NamedTuple):
    """One definition that a video is transcoded to."""

    definition: str
    lines: int
    bits_per_second: int
    specification: str


_RENDITIONS = (
    Rendition("4K", 2160, 12_000_000, "H265.4K"),
    Rendition("2K", 1440, 6_000_000, "H264.2K"),
    Rendition("OD", 1080, 3_000_000, "H264.HD"),
    Rendition("HD", 720, 1_500_000, "H264.HD"),
    Rendition("SD", 480, 800_000, "H264.SD"),
    Rendition("LD", 360, 400_000, "H264.LD"),
    Rendition("FD", 240, 200_000, "H264.LD"),
)
#: Definition and bits per second.
_AUDIO_RENDITIONS = (("HQ", 128_000), ("SQ", 64_000))
_ENCRYPTIONS: tuple[JsonObject, ...] = (
    {"Encrypt": 1, "EncryptType": "AliyunVoDEncryption", "EncryptMode": "License"},
    {"Encrypt": 1, "EncryptType": "HLSEncryption"},
)


def make_play_infos(
    rng: SeededRandom, file: SourceFile, *, media_id: str, template_group: str, finished_at: Sequence[float], open_domain: bool
) -> list[JsonObject]:
    """Return one stream for each time in `finished_at` (unix seconds), in that order.

    A source file has only as many definitions as fit into its frame size. Further streams repeat a job: the newest stream has the
    status Normal, the older ones with the same definition and format stay as Invisible (vod-protocol 7.28).
    """
    host = f"http://{OPEN_HOST if open_domain else CDN_HOST}"
    make = _video_play_info if file.width else _audio_play_info
    streams = [make(rng, file, number) for number in range(len(finished_at))]
    newer_kinds: set[tuple[str, str]] = set()
    for stream, finished in zip(reversed(streams), reversed(finished_at), strict=True):
        kind = (stream["Definition"], stream["Format"])
        stream["JobId"] = rng.hex(32)
        stream["Status"] = "Invisible" if kind in newer_kinds else "Normal"
        stream["PlayURL"] = f"{host}/{media_id}/{stream['JobId'][:12]}-{stream['Definition'].lower()}.{stream['Format']}"
        stream["TemplateGroupId"] = template_group
        stream["TemplateId"] = rng.hex(32)
        stream["CreationTime"] = stream["ModificationTime"] = format_utc(finished)
        newer_kinds.add(kind)
    return streams


def _video_play_info(rng: SeededRandom, file: SourceFile, number: int) -> JsonObject:
    short_side = min(file.width, file.height)
    possible = [rendition for rendition in _RENDITIONS if rendition.lines <= short_side]
    rendition = possible[number % len(possible)]
    bits_per_second = rendition.bits_per_second * rng.between(60, 100) // 100
    # Encoders require an even number of pixels.
    long_side = max(file.width, file.height) * rendition.lines // short_side & ~1
    width, height = (long_side, rendition.lines) if file.width >= file.height else (rendition.lines, long_side)
    narrow_band = rng.pick(("0", "0", "1.0", "2.0"))
    stream: JsonObject = {
        "StreamType": "video",
        "Format": rng.pick(("m3u8", "m3u8", "mp4")),
        "Definition": rendition.definition,
        "Specification": rng.pick((rendition.specification, rendition.specification, "Segmentation", "Original"))
        if narrow_band == "0"
        else f"{rendition.specification}.NarrowBandHDV1",
        "NarrowBandType": narrow_band,
        "Width": width,
        "Height": height,
        "Size": file.size_at(bits_per_second),
        "Duration": file.duration,
        "Bitrate": format_kbps(bits_per_second),
        "Fps": file.frame_rate,
        "CodecName": "h265" if rendition.definition == "4K" else "h264",
        "BitDepth": 10 if file.hdr_type else 8,
        "Encrypt": 0,
    }
    if file.hdr_type and rng.chance(0.7):
        stream["HDRType"] = rng.pick((file.hdr_type, "SDR+"))
    if stream["Format"] == "m3u8" and rng.chance(0.25):
        stream |= rng.pick(_ENCRYPTIONS)
    if rng.chance(0.15):
        stream["WatermarkId"] = rng.pick((rng.hex(32), f"{rng.hex(32)},{rng.hex(32)}"))
    if rng.chance(0.12):
        stream |= rng.pick(({"JobType": 1}, {"JobType": 2, "JobExt": "© Emulator 版权所有"}))
    return stream


def _audio_play_info(rng: SeededRandom, file: SourceFile, number: int) -> JsonObject:
    definition, bits_per_second = _AUDIO_RENDITIONS[number % len(_AUDIO_RENDITIONS)]
    return {
        "StreamType": "audio",
        "Format": "mp3",
        "Definition": definition,
        "Specification": "Audio",
        "NarrowBandType": "0",
        "Size": file.size_at(bits_per_second),
        "Duration": file.duration,
        "Bitrate": format_kbps(bits_per_second),
        "CodecName": "mp3",
        "Encrypt": 0,
    }
