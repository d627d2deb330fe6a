"""What VOD tells about a medium: the bodies of its notifications (vod-protocol 2).

Types differ from those of the API on purpose: sizes are numbers, bitrates text, Encrypt a boolean. Empty fields are left out,
URLs are http and carry no signature.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from worker.emulator.library.clock import iso
from worker.emulator.library.lifecycle import Step
from worker.emulator.library.media_factory import Outline
from worker.emulator.library.seeded_random import SeededRandom

Body = dict[str, Any]


def body(step: Step, element: Mapping[str, Any], *, at: float, plan: Outline, damaged: bool = False) -> Body:
    """The notification of one step in the life of `element` (documented form); `at` is the unix time of the event."""
    media_id = element["MediaId"]
    match step.event_type:
        case "MediaBaseChangeComplete":
            info = element["MediaInfo"]
            names = ("Title", "Description", "CateId", "Tags")
            return base_change(media_id, "create", at, after={name: info[name] for name in names if info[name]})
        case "FileUploadComplete":
            event = _file_upload(element)
        case "VideoAnalysisComplete":
            event = _analysis_failed() if damaged else _analysis(element)
        case "SnapshotComplete":
            event = _snapshots(element)
        case "StreamTranscodeComplete":
            event = _stream(element, element["PlayInfoList"][step.stream])
        case _:
            event = _transcode(element, plan)
    envelope: Body = {"EventType": step.event_type, "EventTime": iso(at), "Status": "success", "VideoId": media_id, **event}
    extend = json.loads(element["MediaInfo"].get("UserData", "{}")).get("Extend")
    if extend is not None and step.event_type != "VideoAnalysisComplete":
        envelope["Extend"] = extend if isinstance(extend, str) else json.dumps(extend, ensure_ascii=False)
    return envelope


def base_change(
    media_id: str, mode: str, at: float, *, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None
) -> Body:
    """MediaBaseChangeComplete; `mode` is create, update or delete. MediaContent is an object of JSON texts (2.8)."""
    before, after = before or {}, after or {}
    content = {}
    for name in sorted(before.keys() | after.keys()):
        values = {key: side[name] for key, side in (("OldValue", before), ("NewValue", after)) if name in side}
        content[name] = json.dumps(values, ensure_ascii=False)
    return {
        "EventType": "MediaBaseChangeComplete",
        "EventTime": iso(at),
        "Status": "success",
        "MediaType": "video",
        "MediaId": media_id,
        "OperateMode": mode,
        "MediaContent": content,
    }


def deletion(media_id: str, kind: str, at: float, jobs: Iterable[str] = ()) -> Body:
    """DeleteMediaComplete; `kind` is all, mezzanine or stream."""
    event: Body = {
        "EventType": "DeleteMediaComplete",
        "EventTime": iso(at),
        "Status": "success",
        "MediaType": "video",
        "DeleteType": kind,
        "MediaId": media_id,
    }
    if kind == "stream":
        event["JobIds"] = ",".join(jobs)
    return event


def _file_upload(element: Mapping[str, Any]) -> Body:
    mezzanine = element["MezzanineInfo"]
    return {"FileUrl": _plain_http(mezzanine["FileURL"]), "Size": mezzanine["Size"]}


def _analysis(element: Mapping[str, Any]) -> Body:
    """Documented as numbers, shown as text in the vendor's sample, never captured: so both occur, by medium (2.3)."""
    mezzanine = element["MezzanineInfo"]
    as_text = SeededRandom(element["MediaId"], "analysis").chance(0.5)
    event: Body = {
        "Duration": float(mezzanine["Duration"]),
        "Size": mezzanine["Size"],
        "Bitrate": mezzanine["Bitrate"].rstrip("0").rstrip("."),
    }
    if "Width" in mezzanine:
        event |= {"Width": mezzanine["Width"], "Height": mezzanine["Height"], "Fps": mezzanine["Fps"]}
    return {name: str(value) for name, value in event.items()} if as_text else event


def _analysis_failed() -> Body:
    return {"Status": "fail", "ErrorCode": "InvalidParameter.ResourceContentBad", "ErrorMessage": "input cannot be parsed"}


def _snapshots(element: Mapping[str, Any]) -> Body:
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


def _stream(element: Mapping[str, Any], play_info: Mapping[str, Any]) -> Body:
    event: Body = {
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


def _transcode(element: Mapping[str, Any], plan: Outline) -> Body:
    streams: list[Body] = [{"Status": "success", **_stream(element, play_info)} for play_info in element["PlayInfoList"]]
    if plan.failed_stream:
        job_id = SeededRandom(element["MediaId"], "failed").hex(32)
        failure = {"JobId": job_id, "Definition": "4K", "Format": "mp4", "ErrorCode": "TranscodeError"}
        streams.append({"Status": "fail", **failure, "ErrorMessage": "source too small"})
    return {"StreamInfos": streams}


def _plain_http(url: str) -> str:
    return url.replace("https://", "http://", 1)
