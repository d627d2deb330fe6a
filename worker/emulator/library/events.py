"""Make the bodies of notifications (vod-protocol 2).

Their types differ from those of the API, as at VOD: sizes are numbers, bitrates are text, Encrypt is a boolean. Empty fields are
left out. URLs use http and carry no signature.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.lifecycle import Step
from worker.emulator.library.media_factory import Outline
from worker.emulator.library.seeded_random import SeededRandom
from worker.emulator.library.timestamps import format_utc


def step_event(step: Step, element: JsonObject, *, at: float, outline: Outline, damaged: bool = False) -> JsonObject:
    """Return the notification of one step in the life of an asset.

    `element` is the finished asset in its documented form, `at` the time of the event in unix seconds.
    """
    media_id = element["MediaId"]
    match step.event_type:
        case "MediaBaseChangeComplete":
            info = element["MediaInfo"]
            names = ("Title", "Description", "CateId", "Tags")
            return base_change_event(media_id, "create", at, after={name: info[name] for name in names if info[name]})
        case "FileUploadComplete":
            event = _file_upload(element)
        case "VideoAnalysisComplete":
            event = _analysis_failed() if damaged else _analysis(element)
        case "SnapshotComplete":
            event = _snapshots(element)
        case "StreamTranscodeComplete":
            event = _stream(element, element["PlayInfoList"][step.stream])
        case _:
            event = _transcode(element, outline)
    common = {"EventType": step.event_type, "EventTime": format_utc(at), "Status": "success", "VideoId": media_id}
    body: JsonObject = {**common, **event}
    extend = json.loads(element["MediaInfo"].get("UserData", "{}")).get("Extend")
    if extend is not None and step.event_type != "VideoAnalysisComplete":
        body["Extend"] = extend if isinstance(extend, str) else json.dumps(extend, ensure_ascii=False)
    return body


def base_change_event(
    media_id: str, mode: str, at: float, *, before: JsonObject | None = None, after: JsonObject | None = None
) -> JsonObject:
    """Return MediaBaseChangeComplete; `mode` is create, update or delete.

    `before` and `after` are the old and the new values by field. MediaContent is an object of JSON texts (vod-protocol 2.8).
    """
    before, after = before or {}, after or {}
    content = {}
    for name in sorted(before.keys() | after.keys()):
        values = {key: fields[name] for key, fields in (("OldValue", before), ("NewValue", after)) if name in fields}
        content[name] = json.dumps(values, ensure_ascii=False)
    return {
        "EventType": "MediaBaseChangeComplete",
        "EventTime": format_utc(at),
        "Status": "success",
        "MediaType": "video",
        "MediaId": media_id,
        "OperateMode": mode,
        "MediaContent": content,
    }


def deletion_event(media_id: str, delete_type: str, at: float, job_ids: Iterable[str] = ()) -> JsonObject:
    """Return DeleteMediaComplete; `delete_type` is all, mezzanine or stream, the last with `job_ids`."""
    event: JsonObject = {
        "EventType": "DeleteMediaComplete",
        "EventTime": format_utc(at),
        "Status": "success",
        "MediaType": "video",
        "DeleteType": delete_type,
        "MediaId": media_id,
    }
    if delete_type == "stream":
        event["JobIds"] = ",".join(job_ids)
    return event


def _file_upload(element: JsonObject) -> JsonObject:
    mezzanine = element["MezzanineInfo"]
    return {"FileUrl": _as_http(mezzanine["FileURL"]), "Size": mezzanine["Size"]}


def _analysis(element: JsonObject) -> JsonObject:
    """Return the fields of a successful analysis, as numbers or as text depending on the asset.

    VOD documents numbers, the vendor's sample shows text, and no real event has been captured (vod-protocol 2.3).
    """
    mezzanine = element["MezzanineInfo"]
    as_text = SeededRandom(element["MediaId"], "analysis").chance(0.5)
    event: JsonObject = {
        "Duration": float(mezzanine["Duration"]),
        "Size": mezzanine["Size"],
        "Bitrate": mezzanine["Bitrate"].rstrip("0").rstrip("."),
    }
    if "Width" in mezzanine:
        event |= {"Width": mezzanine["Width"], "Height": mezzanine["Height"], "Fps": mezzanine["Fps"]}
    return {name: str(value) for name, value in event.items()} if as_text else event


def _analysis_failed() -> JsonObject:
    return {"Status": "fail", "ErrorCode": "InvalidParameter.ResourceContentBad", "ErrorMessage": "input cannot be parsed"}


def _snapshots(element: JsonObject) -> JsonObject:
    info = element["MediaInfo"]
    snapshot = {
        "Status": "success",
        "SnapshotType": "Normal",
        "SnapshotCount": len(info["Snapshots"]),
        "SnapshotFormat": "jpg",
        "SnapshotRegular": info["CoverURL"].replace("cover", "{SnapshotCount}"),
        "JobId": SeededRandom(element["MediaId"], "snapshot").hex(32),
    }
    return {"SubType": "SpecifiedTime", "CoverUrl": info["CoverURL"], "SnapshotInfos": [snapshot]}


def _stream(element: JsonObject, play_info: JsonObject) -> JsonObject:
    event: JsonObject = {
        "JobId": play_info["JobId"],
        "Definition": play_info["Definition"],
        "Format": play_info["Format"],
        "FileUrl": play_info["PlayURL"],
        "Duration": float(play_info["Duration"]),
        "Size": play_info["Size"],
        "Bitrate": play_info["Bitrate"].split(".")[0],
        "Encrypt": bool(play_info["Encrypt"]),
        "IsAudio": play_info["StreamType"] == "audio",
        "StartTime": element["MediaInfo"]["CreationTime"],
        "FinishTime": play_info["CreationTime"],
    }
    for name in ("Width", "Height", "Fps", "EncryptType", "WatermarkId"):
        if name in play_info:
            event[name] = play_info[name]
    return event


def _transcode(element: JsonObject, outline: Outline) -> JsonObject:
    streams: list[JsonObject] = [{"Status": "success", **_stream(element, play_info)} for play_info in element["PlayInfoList"]]
    if outline.has_failed_stream:
        job_id = SeededRandom(element["MediaId"], "failed").hex(32)
        failure = {"JobId": job_id, "Definition": "4K", "Format": "mp4", "ErrorCode": "TranscodeError"}
        streams.append({"Status": "fail", **failure, "ErrorMessage": "source too small"})
    return {"StreamInfos": streams}


def _as_http(url: str) -> str:
    return url.replace("https://", "http://", 1)
