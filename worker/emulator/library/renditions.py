"""The streams that transcoding makes of a source: PlayInfo as vod-protocol 9.6 documents it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker.emulator.library.clock import iso
from worker.emulator.library.links import CDN, OPEN
from worker.emulator.library.seeded_random import SeededRandom
from worker.emulator.library.streams import Source, kbps

#: definition, lines, bits per second, specification
_LADDER = (
    ("4K", 2160, 12_000_000, "H265.4K"),
    ("2K", 1440, 6_000_000, "H264.2K"),
    ("OD", 1080, 3_000_000, "H264.HD"),
    ("HD", 720, 1_500_000, "H264.HD"),
    ("SD", 480, 800_000, "H264.SD"),
    ("LD", 360, 400_000, "H264.LD"),
    ("FD", 240, 200_000, "H264.LD"),
)
_AUDIO_LADDER = (("HQ", 128_000), ("SQ", 64_000))
_ENCRYPTIONS: tuple[dict[str, Any], ...] = (
    {"Encrypt": 1, "EncryptType": "AliyunVoDEncryption", "EncryptMode": "License"},
    {"Encrypt": 1, "EncryptType": "HLSEncryption"},
)


def play_infos(
    dice: SeededRandom, source: Source, *, media_id: str, template_group: str, finished_at: Sequence[float], open_domain: bool
) -> list[dict[str, Any]]:
    """One stream for each time in `finished_at` (unix seconds), in that order.

    More streams than there are definitions below the source are repeats of a job: the newest counts, the older ones stay
    behind as Invisible (vod-protocol 7.28).
    """
    host = f"http://{OPEN if open_domain else CDN}"
    make = _video_play_info if source.width else _audio_play_info
    streams = [make(dice, source, number) for number in range(len(finished_at))]
    newest: set[tuple[str, str]] = set()
    for stream, finished in zip(reversed(streams), reversed(finished_at), strict=True):
        kind = (stream["Definition"], stream["Format"])
        stream["JobId"] = dice.hex(32)
        stream["Status"] = "Invisible" if kind in newest else "Normal"
        stream["PlayURL"] = f"{host}/{media_id}/{stream['JobId'][:12]}-{stream['Definition'].lower()}.{stream['Format']}"
        stream["TemplateGroupId"] = template_group
        stream["TemplateId"] = dice.hex(32)
        stream["CreationTime"] = stream["ModificationTime"] = iso(finished)
        newest.add(kind)
    return streams


def _video_play_info(dice: SeededRandom, source: Source, number: int) -> dict[str, Any]:
    lines = min(source.width, source.height)
    ladder = [rung for rung in _LADDER if rung[1] <= lines]
    definition, lines, bps, specification = ladder[number % len(ladder)]
    bps = bps * dice.between(60, 100) // 100
    long_side = max(source.width, source.height) * lines // min(source.width, source.height) & ~1
    width, height = (long_side, lines) if source.width >= source.height else (lines, long_side)
    narrow = dice.pick(("0", "0", "1.0", "2.0"))
    stream: dict[str, Any] = {
        "StreamType": "video",
        "Format": dice.pick(("m3u8", "m3u8", "mp4")),
        "Definition": definition,
        "Specification": dice.pick((specification, specification, "Segmentation", "Original"))
        if narrow == "0"
        else f"{specification}.NarrowBandHDV1",
        "NarrowBandType": narrow,
        "Width": width,
        "Height": height,
        "Size": source.bytes_at(bps),
        "Duration": source.duration,
        "Bitrate": kbps(bps),
        "Fps": source.rate,
        "CodecName": "h265" if definition == "4K" else "h264",
        "BitDepth": 10 if source.hdr else 8,
        "Encrypt": 0,
    }
    if source.hdr and dice.chance(0.7):
        stream["HDRType"] = dice.pick((source.hdr, "SDR+"))
    if stream["Format"] == "m3u8" and dice.chance(0.25):
        stream |= dice.pick(_ENCRYPTIONS)
    if dice.chance(0.15):
        stream["WatermarkId"] = dice.pick((dice.hex(32), f"{dice.hex(32)},{dice.hex(32)}"))
    if dice.chance(0.12):
        stream |= dice.pick(({"JobType": 1}, {"JobType": 2, "JobExt": "© Emulator 版权所有"}))
    return stream


def _audio_play_info(dice: SeededRandom, source: Source, number: int) -> dict[str, Any]:
    definition, bps = _AUDIO_LADDER[number % len(_AUDIO_LADDER)]
    return {
        "StreamType": "audio",
        "Format": "mp3",
        "Definition": definition,
        "Specification": "Audio",
        "NarrowBandType": "0",
        "Size": source.bytes_at(bps),
        "Duration": source.duration,
        "Bitrate": kbps(bps),
        "CodecName": "mp3",
        "Encrypt": 0,
    }
