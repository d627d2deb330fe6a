"""The documented element in, the element as VOD really words it out (vod-protocol 7).

The same medium always has the same habits. Values stay what they were; only a client that reads too strictly will notice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from worker.emulator.library.seeded_random import SeededRandom

_FRACTIONS = {"29.970030": "30000/1001", "23.976024": "24000/1001", "59.940060": "60000/1001"}
#: What VOD words as a string or as a number, depending on who asks (7.1).
_MEZZANINE_NUMBERS = ("Size", "Width", "Height")
_PLAY_NUMBERS = ("Size", "Width", "Height", "BitDepth", "Encrypt", "JobType")
_STREAM_NUMBERS = ("Index", "Width", "Height", "SampleRate", "Channels", "Rotate")
#: Empty text stands for "none" (7.14), but as often the field is missing.
_OPTIONAL = ("Description", "CateName", "Tags", "CoverURL", "FileMD5")


def reword(element: dict[str, Any], dice: SeededRandom) -> None:
    """Change one finished element in place."""
    info = element["MediaInfo"]
    mezzanine = element["MezzanineInfo"]
    _drop_empty(info, dice)
    _drop_empty(mezzanine, dice)
    _reword_info(info, dice)
    _reword_mezzanine(mezzanine, dice)
    as_text = dice.chance(0.2)
    for stream in mezzanine["VideoStreamList"]:
        _reword_video_stream(stream, dice)
    for stream in mezzanine["AudioStreamList"]:
        _reword_audio_stream(stream, dice)
    for name in ("VideoStreamList", "AudioStreamList"):
        if not mezzanine[name] and dice.chance(0.5):
            del mezzanine[name]
    for play_info in element["PlayInfoList"]:
        _reword_play_info(play_info, dice, as_text)
    if dice.chance(0.02):
        # The sample shows three ids in one element: the outer one is the key (7.15).
        mezzanine["MediaId"] = dice.hex(32)


def terse(media_id: str) -> bool:
    """Whether lists that would be empty are left out (7.16)."""
    return int(media_id[1], 16) % 2 == 0


def id_list(ids: list[str]) -> list[str]:
    """NonExistMediaIds and ForbiddenMediaIds: every other answer packs the list into a string in a list (7.3)."""
    if ids and sum(map(ord, ids[0])) % 2:
        return [json.dumps(ids, separators=(",", ":"))]
    return ids


def snapshot_list(media_id: str, urls: list[str]) -> list[str]:
    """The same habit in MediaInfo.Snapshots."""
    if urls and int(media_id[2], 16) % 2:
        return [json.dumps(urls, separators=(",", ":"))]
    return urls


def reword_video(video: dict[str, Any], media_id: str, urls: list[str], dice: SeededRandom) -> None:
    """Change a Video object of GetVideoInfo in place: half of them speak the older edition, in which numbers are text."""
    video["Snapshots"] = _snapshot_object(media_id, urls)
    video["CustomMediaInfo"] = dice.pick((None, ""))
    if dice.chance(0.5):
        _numbers_to_text(video, ("Size", "Duration", "CateId"))


def storage_order(element: dict[str, Any]) -> str:
    """A sort key that has nothing to do with the order of asking (7.17)."""
    return str(element["MediaId"][::-1])


def _snapshot_object(media_id: str, urls: list[str]) -> dict[str, Any]:
    """Snapshots as GetVideoInfo sends them: an object around a list, or around a list in a string (7.4)."""
    if int(media_id[2], 16) % 2:
        return {"Snapshot": json.dumps(urls, separators=(",", ":"))}
    return {"Snapshot": urls}


def _drop_empty(fields: dict[str, Any], dice: SeededRandom) -> None:
    for name in _OPTIONAL:
        if fields.get(name) == "":
            habit = dice.below(3)
            if habit == 0:
                del fields[name]
            elif habit == 1:
                fields[name] = None


def _reword_info(info: dict[str, Any], dice: SeededRandom) -> None:
    if info["CateId"] == 0 and dice.chance(0.5):
        del info["CateId"]
    elif dice.chance(0.3):
        info["CateId"] = str(info["CateId"])
    if info["Snapshots"] == [] and dice.chance(0.5):
        del info["Snapshots"]
    for name in ("DownloadSwitch", "TemplateGroupId", "AppId"):
        if dice.chance(0.1):
            del info[name]
    if dice.chance(0.1):
        info["CreationTime"] += "\n"
    if dice.chance(0.1):
        info["TranscodeMode"] = "FastTranscode"


def _reword_mezzanine(mezzanine: dict[str, Any], dice: SeededRandom) -> None:
    if dice.chance(0.3):
        _numbers_to_text(mezzanine, _MEZZANINE_NUMBERS)
    elif "Width" not in mezzanine and dice.chance(0.5):
        mezzanine |= {"Width": 0, "Height": 0}
    if dice.chance(0.3):
        mezzanine["FileName"] += "\n"
    if dice.chance(0.15):
        _text_to_numbers(mezzanine, ("Duration", "Bitrate"), float)
    if "Fps" in mezzanine:
        mezzanine["Fps"] = _rate(mezzanine["Fps"], dice)
    if dice.chance(0.15):
        mezzanine["OutputType"] = dice.pick(("cdn", "oss"))
        mezzanine["CRC64"] = str(dice.below(1 << 32) << 20)


def _reword_video_stream(stream: dict[str, Any], dice: SeededRandom) -> None:
    stream["Fps"] = _rate(stream["Fps"], dice)
    stream["AvgFPS"] = dice.pick(("0/0", "")) if dice.chance(0.08) else _rate(stream["AvgFPS"], dice)
    if "HDRType" not in stream and dice.chance(0.5):
        stream["HDRType"] = ""
    _reword_stream(stream, dice)


def _reword_audio_stream(stream: dict[str, Any], dice: SeededRandom) -> None:
    _reword_stream(stream, dice)
    if dice.chance(0.1):
        stream["Samplerate"] = stream.pop("SampleRate")


def _reword_stream(stream: dict[str, Any], dice: SeededRandom) -> None:
    if dice.chance(0.2):
        _text_to_numbers(stream, _STREAM_NUMBERS, int)
    if dice.chance(0.3):
        stream["CodecLongName"] += "\n"
    if dice.chance(0.1):
        stream["Timebase"] = "0.000000"
    habit = dice.below(4)
    if habit == 0:
        del stream["NumFrames"]
    elif habit == 1:
        stream["NumFrames"] = "0"
    for name in ("Lang", "Bitrate", "CodecTimeBase"):
        if dice.chance(0.1):
            del stream[name]


def _reword_play_info(play_info: dict[str, Any], dice: SeededRandom, as_text: bool) -> None:
    if as_text:
        _numbers_to_text(play_info, _PLAY_NUMBERS)
    if "Fps" in play_info:
        play_info["Fps"] = _rate(play_info["Fps"], dice)
    if "HDRType" not in play_info and dice.chance(0.2):
        play_info["HDRType"] = ""
    if dice.chance(0.3):
        play_info["CreationTime"] += "\n"
    if dice.chance(0.1):
        play_info["PreprocessStatus"] = "UnPreprocess"
    if dice.chance(0.2):
        del play_info["TemplateGroupId"]


def _rate(rate: str, dice: SeededRandom) -> str:
    """One of the ways in which a frame rate is written (7.7)."""
    if rate in _FRACTIONS:
        return dice.pick((_FRACTIONS[rate], rate))
    if rate.endswith(".0000"):
        whole = rate[:-5]
        return dice.pick((whole, f"{whole}.0", rate, f"{whole}/1"))
    return rate


def _numbers_to_text(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name in fields:
            fields[name] = str(fields[name])


def _text_to_numbers(fields: dict[str, Any], names: tuple[str, ...], read: Callable[[str], float]) -> None:
    for name in names:
        if name in fields:
            fields[name] = read(fields[name])
