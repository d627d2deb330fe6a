"""Samples of real traffic: a notification of every type (vod-protocol 2), and answers with each irregularity (vod-protocol 7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parents[1] / "unit" / "core" / "data"

A = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
B = "1a1b2c3d4e5f60718293a4b5c6d7e8f9"
C = "2a1b2c3d4e5f60718293a4b5c6d7e8f9"
D = "3a1b2c3d4e5f60718293a4b5c6d7e8f9"

#: The ids in the samples.
IDS = (A, B, C, D)

IMAGE = "http://img.example.org/c.jpg"
SIGNED = f"{IMAGE}?auth_key=1764003600-0-0-aabbccddeeff00112233445566778899"
OSS = f"{IMAGE}?Expires=1764003600&OSSAccessKeyId=LTAI5tSample&Signature=aB%2Bc%2Fd%3D&security-token=CAIS%2Fx%3D"


def _event(event_type: str, **fields: Any) -> dict[str, Any]:
    return {"EventType": event_type, "EventTime": "2025-11-24T16:00:05Z", "Status": "success", **fields}


# Types without a sample in the protocol. The protocol's own samples are in the file that the unit tests read.
_OTHER_NOTIFICATIONS = [
    _event("DynamicImageComplete", VideoId=A, JobId="d-1", DynamicImageUrl=SIGNED),
    _event("LiveRecordVideoComposeStart", VideoId=A, DomainName="live.example.org", AppName="app", StreamName="s1"),
    _event("UploadByURLComplete", VideoId=A, JobId="job0002", Size="7864320", **{"SourceURL ": OSS, "ErrorCode ": ""}),
    _event("WorkflowTaskComplete", WorkflowId="w", TaskId="t", TaskInput=json.dumps({"Media": A})) | {"Status": "Succeed"},
    _event("WorkflowTaskComplete", VideoId=A, TaskInput={"Media": B}) | {"Status": "Failed"},
    _event("MediaBaseChangeComplete", MediaType="image", MediaId="i", OperateMode="create", MediaContent="{}"),
    _event("AIMediaDNAComplete", MediaId=A, JobId="ai-2", Code="", Message="", Data='{"x":[1]}'),
    _event("AIVideoTagComplete", MediaId=A, JobId="ai-3", Data='{"VideoTagResults":"{}"}'),
    _event("ProduceMediaComplete", MediaId=A, ProjectId="p"),
    _event("UpdateMediaStorageClassComplete", MediaId=A, Scope="All", StorageClass="IA") | {"Status": "Success"},
    _event("RestoreMediaComplete", MediaId=A, RestoreExpiration="2025-12-24T16:00:05Z") | {"Status": "Failed"},
    _event("SubmitMediaRefreshComplete", MediaId=A, MediaRefreshJobId="r"),
    _event("ImageUploadComplete", ImageId="i", AppId="app-1000000", FileURL=SIGNED),
    _event("AttachedMediaUploadComplete", AttachedMediaId="a"),
    _event("DeleteMediaComplete", MediaType="video", DeleteType="mezzanine", MediaId=A),
    _event("DeleteMediaComplete", MediaType="attached", DeleteType="all", MediaId="a"),
    _event("SnapshotComplete", SnapshotInfos=[{"Status": "fail", "JobId": "s"}], CoverUrl=SIGNED),
    _event("SomethingNew", MediaIds=f"{A},{B}", Extend='{"url":"http:\\/\\/x\\/?auth_key\\u003d1-0-0-ff\\u0026a=1"}'),
    {"Status": "success", "VideoId": A, "EventType": "FileUploadComplete", "Size": 5},
]

NOTIFICATIONS: list[bytes] = [
    *(line.encode() for line in (_DATA / "notifications.jsonl").read_text().splitlines()),
    *(json.dumps(event).encode() for event in _OTHER_NOTIFICATIONS),
]

#: More ids than are read from one notification, ids in two fields, and an input that is nested too deeply.
UNUSUAL_NOTIFICATIONS: list[bytes] = [
    json.dumps(event).encode()
    for event in (
        _event("SomethingNew", MediaIds=",".join(map(str, range(1005)))),
        _event("SomethingNew", VideoId=A, MediaIds=f"{B}, {C}"),
        _event("WorkflowTaskComplete", TaskInput="[" * 5000),
    )
]


def _element(media_id: str, **parts: Any) -> dict[str, Any]:
    return {"MediaId": media_id, "MediaInfo": {"MediaId": media_id, "Title": "Demo", "Status": "Normal", "CoverURL": OSS}, **parts}


_IRREGULAR_ANSWERS = [
    # All ids unknown, in both forms of a list.
    {"RequestId": "R-3", "MediaInfos": [], "NonExistMediaIds": [json.dumps([A, B])], "ForbiddenMediaIds": [json.dumps([C])]},
    {"RequestId": "R-4", "MediaInfos": None, "NonExistMediaIds": f"{A},{B}", "NonExistReferenceIds": ["ref-000001"]},
    {"RequestId": "R-8", "NonExistMediaIds": [A, B], "ForbiddenMediaIds": [C, D], "NonExistReferenceIds": ["ref-000001", "r-2"]},
    # Assets before their analysis, and one with audio only.
    {"RequestId": "R-5", "MediaInfos": [_element(A), _element(B, MezzanineInfo={}, PlayInfoList=[])]},
    {
        "RequestId": "R-6",
        "MediaInfos": [
            _element(
                C,
                MezzanineInfo={
                    "Duration": 183.4,
                    "Bitrate": "128",
                    "Size": "2934400",
                    "Width": 0,
                    "FileURL": OSS,
                    "AudioStreamList": [{"Index": 0, "Samplerate": 44100.0, "Channels": "2", "ChannelLayout": "5.1(side)"}],
                },
                PlayInfoList=[{"JobId": f"j-{n}", "Encrypt": bool(n), "PlayURL": SIGNED, "Fps": "0/0"} for n in range(3)],
            ),
            _element(D, MezzanineInfo={"Status": "Deleted", "CreationTime": "2025-11-24T16:00:01:540Z\n"}),
        ],
        "NonExistReferenceIds": ["123-123"],
    },
    # The same asset twice, and different ids inside one element.
    {"MediaInfos": [_element(A), _element(A, MezzanineInfo={"MediaId": B, "Duration": "1"}), _element(B) | {"MediaId": None}]},
    {"MediaInfos": [_element(A) | {"MediaInfo": {"Snapshots": {"Snapshot": json.dumps([SIGNED, SIGNED])}, "Tags": ["a", "b, c"]}}]},
]

ANSWERS: list[bytes] = [
    (_DATA / "skeleton.json").read_bytes(),
    (_DATA / "full_answer.json").read_bytes(),
    *(json.dumps(answer).encode() for answer in _IRREGULAR_ANSWERS),
]

#: Answers about A: with fewer streams, without details, before the analysis, and without its source file.
ANSWERS_ABOUT_ONE_ASSET: list[bytes] = [
    json.dumps({"MediaInfos": [element]}).encode()
    for element in (
        json.loads(ANSWERS[1])["MediaInfos"][0] | {"MediaId": A},
        _element(A),
        _element(
            A, MezzanineInfo={"Duration": "1", "VideoStreamList": [{"Index": "0", "Fps": "25"}]}, PlayInfoList=[{"JobId": "j"}]
        ),
        {"MediaId": A, "MediaInfo": "none", "MezzanineInfo": {"Duration": "1", "AudioStreamList": [{"Index": "0"}]}},
        {"MediaId": A, "MezzanineInfo": {"Status": "Deleted"}},
        {"MediaId": A},
    )
]


def _row(media_id: str, name: str, **fields: Any) -> dict[str, Any]:
    times = {"CreationTime": "2025-11-24T16:00:05Z", "ModificationTime": "2025-11-25T16:00:05Z"}
    return {"MediaId": media_id, "MediaType": name.lower(), **times, name: {f"{name}Id": media_id, **times, **fields}}


#: Pages of SearchMedia.
PAGES: list[bytes] = [
    json.dumps(page).encode()
    for page in (
        {"RequestId": "R-7", "Total": 2, "ScrollToken": "token", "MediaList": [_row(A, "Video", AppId="app-2"), _row(B, "Audio")]},
        {"Total": 5001, "MediaList": [_row(media_id, "Video", AppId="app-1000000", CoverURL=SIGNED) for media_id in IDS]},
        {"Total": 0, "ScrollToken": "", "MediaList": []},
    )
]
