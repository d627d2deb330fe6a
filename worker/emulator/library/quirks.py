"""Change documented elements into the forms that VOD really sends (vod-protocol 7).

The same asset always has the same quirks. They change the form and the type of values, leave fields out, fill them with zero, and
add fields that VOD does not document. A client that reads too strictly fails on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.seeded_random import SeededRandom

_FRACTIONS = {"29.970030": "30000/1001", "23.976024": "24000/1001", "59.940060": "60000/1001"}
# Fields that VOD sends as text or as a number, depending on the operation (vod-protocol 7.1).
_MEZZANINE_NUMBERS = ("Size", "Width", "Height")
_PLAY_INFO_NUMBERS = ("Size", "Width", "Height", "BitDepth", "Encrypt", "JobType")
_STREAM_NUMBERS = ("Index", "Width", "Height", "SampleRate", "Channels", "Rotate")
#: Fields in which empty text means "none" (vod-protocol 7.14). VOD leaves them out as often.
_OPTIONAL_FIELDS = ("Description", "CateName", "Tags", "CoverURL", "FileMD5")


def apply_to_element(element: JsonObject, rng: SeededRandom) -> None:
    """Change one finished element of MediaInfos in place."""
    info = element["MediaInfo"]
    mezzanine = element["MezzanineInfo"]
    _drop_empty(info, rng)
    _drop_empty(mezzanine, rng)
    _change_info(info, rng)
    _change_mezzanine(mezzanine, rng)
    numbers_as_text = rng.chance(0.2)
    for stream in mezzanine["VideoStreamList"]:
        _change_video_stream(stream, rng)
    for stream in mezzanine["AudioStreamList"]:
        _change_audio_stream(stream, rng)
    for name in ("VideoStreamList", "AudioStreamList"):
        if not mezzanine[name] and rng.chance(0.5):
            del mezzanine[name]
    for play_info in element["PlayInfoList"]:
        _change_play_info(play_info, rng, numbers_as_text)
    if rng.chance(0.02):
        # The vendor's sample shows three different ids in one element: the outer one is the key (vod-protocol 7.15).
        mezzanine["MediaId"] = rng.hex(32)


def apply_to_video(video: JsonObject, media_id: str, urls: list[str], rng: SeededRandom) -> None:
    """Change a Video object of GetVideoInfo in place.

    Half of the objects have the older form, in which numbers are text. `urls` are the snapshots.
    """
    video["Snapshots"] = _snapshot_object(media_id, urls)
    video["CustomMediaInfo"] = rng.pick((None, ""))
    if rng.chance(0.5):
        _numbers_to_text(video, ("Size", "Duration", "CateId"))


def omits_empty_lists(media_id: str) -> bool:
    """Return True if the answer leaves out lists that would be empty (vod-protocol 7.16)."""
    return int(media_id[1], 16) % 2 == 0


def id_list(ids: list[str]) -> list[str]:
    """Return NonExistMediaIds or ForbiddenMediaIds; half of them are the JSON text of the list inside a list (vod-protocol 7.3)."""
    if ids and sum(map(ord, ids[0])) % 2:
        return [json.dumps(ids, separators=(",", ":"))]
    return ids


def snapshot_list(media_id: str, urls: list[str]) -> list[str]:
    """Return MediaInfo.Snapshots; half of them are the JSON text of the list inside a list (vod-protocol 7.3)."""
    if urls and int(media_id[2], 16) % 2:
        return [json.dumps(urls, separators=(",", ":"))]
    return urls


def storage_order(element: JsonObject) -> str:
    """Return a sort key that is unrelated to the order of the ids in the request (vod-protocol 7.17)."""
    return str(element["MediaId"][::-1])


def _snapshot_object(media_id: str, urls: list[str]) -> JsonObject:
    """Return Snapshots of GetVideoInfo: an object with a list, or with the JSON text of the list (vod-protocol 7.4)."""
    if int(media_id[2], 16) % 2:
        return {"Snapshot": json.dumps(urls, separators=(",", ":"))}
    return {"Snapshot": urls}


def _drop_empty(fields: JsonObject, rng: SeededRandom) -> None:
    for name in _OPTIONAL_FIELDS:
        if fields.get(name) == "":
            form = rng.below(3)
            if form == 0:
                del fields[name]
            elif form == 1:
                fields[name] = None


def _change_info(info: JsonObject, rng: SeededRandom) -> None:
    if info["CateId"] == 0 and rng.chance(0.5):
        del info["CateId"]
    elif rng.chance(0.3):
        info["CateId"] = str(info["CateId"])
    if info["Snapshots"] == [] and rng.chance(0.5):
        del info["Snapshots"]
    for name in ("DownloadSwitch", "TemplateGroupId", "AppId"):
        if rng.chance(0.1):
            del info[name]
    if rng.chance(0.1):
        info["CreationTime"] += "\n"
    if rng.chance(0.1):
        info["TranscodeMode"] = "FastTranscode"


def _change_mezzanine(mezzanine: JsonObject, rng: SeededRandom) -> None:
    if rng.chance(0.3):
        _numbers_to_text(mezzanine, _MEZZANINE_NUMBERS)
    elif "Width" not in mezzanine and rng.chance(0.5):
        mezzanine |= {"Width": 0, "Height": 0}
    if rng.chance(0.3):
        mezzanine["FileName"] += "\n"
    if rng.chance(0.15):
        _text_to_numbers(mezzanine, ("Duration", "Bitrate"), float)
    if "Fps" in mezzanine:
        mezzanine["Fps"] = _frame_rate(mezzanine["Fps"], rng)
    if rng.chance(0.15):
        mezzanine["OutputType"] = rng.pick(("cdn", "oss"))
        mezzanine["CRC64"] = str(rng.below(1 << 32) << 20)


def _change_video_stream(stream: JsonObject, rng: SeededRandom) -> None:
    stream["Fps"] = _frame_rate(stream["Fps"], rng)
    stream["AvgFPS"] = rng.pick(("0/0", "")) if rng.chance(0.08) else _frame_rate(stream["AvgFPS"], rng)
    if "HDRType" not in stream and rng.chance(0.5):
        stream["HDRType"] = ""
    _change_stream(stream, rng)


def _change_audio_stream(stream: JsonObject, rng: SeededRandom) -> None:
    _change_stream(stream, rng)
    if rng.chance(0.1):
        stream["Samplerate"] = stream.pop("SampleRate")


def _change_stream(stream: JsonObject, rng: SeededRandom) -> None:
    if rng.chance(0.2):
        _text_to_numbers(stream, _STREAM_NUMBERS, int)
    if rng.chance(0.3):
        stream["CodecLongName"] += "\n"
    if rng.chance(0.1):
        stream["Timebase"] = "0.000000"
    form = rng.below(4)
    if form == 0:
        del stream["NumFrames"]
    elif form == 1:
        stream["NumFrames"] = "0"
    for name in ("Lang", "Bitrate", "CodecTimeBase"):
        if rng.chance(0.1):
            del stream[name]


def _change_play_info(play_info: JsonObject, rng: SeededRandom, numbers_as_text: bool) -> None:
    if numbers_as_text:
        _numbers_to_text(play_info, _PLAY_INFO_NUMBERS)
    if "Fps" in play_info:
        play_info["Fps"] = _frame_rate(play_info["Fps"], rng)
    if "HDRType" not in play_info and rng.chance(0.2):
        play_info["HDRType"] = ""
    if rng.chance(0.3):
        play_info["CreationTime"] += "\n"
    if rng.chance(0.1):
        play_info["PreprocessStatus"] = "UnPreprocess"
    if rng.chance(0.2):
        del play_info["TemplateGroupId"]


def _frame_rate(rate: str, rng: SeededRandom) -> str:
    """Return one of the forms in which VOD writes a frame rate (vod-protocol 7.7)."""
    if rate in _FRACTIONS:
        return rng.pick((_FRACTIONS[rate], rate))
    if rate.endswith(".0000"):
        whole = rate[:-5]
        return rng.pick((whole, f"{whole}.0", rate, f"{whole}/1"))
    return rate


def _numbers_to_text(fields: JsonObject, names: tuple[str, ...]) -> None:
    for name in names:
        if name in fields:
            fields[name] = str(fields[name])


def _text_to_numbers(fields: JsonObject, names: tuple[str, ...], convert: Callable[[str], float]) -> None:
    for name in names:
        if name in fields:
            fields[name] = convert(fields[name])
