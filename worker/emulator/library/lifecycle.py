"""Compute the state of an asset at a given time, and how much of the asset the API shows in that state.

An upload is announced, stored, analysed, has its snapshots taken, is transcoded stream by stream, and is then finished. Each of
these steps causes an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.media_factory import Outline, stream_shares

_ALL_STREAMS = 1_000_000

#: Fields of MezzanineInfo that are known before the file is analysed.
_FIELDS_BEFORE_ANALYSIS = ("MediaId", "Status", "FileName", "FileURL", "FileMD5", "CreationTime", "Size")


@dataclass(frozen=True, slots=True)
class AssetState:
    """The state of an asset at one moment."""

    #: MediaInfo.Status.
    status: str
    is_stored: bool = True
    is_analysed: bool = True
    has_snapshots: bool = True
    #: Transcoded streams that are finished; they finish in the order of the list.
    stream_count: int = _ALL_STREAMS


FINISHED = AssetState("Normal")

#: The final states of the existing library, one of which is drawn for each asset. Most are finished; every real library has others.
LIBRARY_STATES = (
    *(FINISHED,) * 90,
    AssetState("Blocked"),
    AssetState("Blocked"),
    AssetState("Checking"),
    AssetState("UploadSucc", stream_count=0),
    AssetState("UploadSucc", stream_count=0),
    AssetState("TranscodeFail", stream_count=0),
    AssetState("TranscodeFail", stream_count=0),
    AssetState("Transcoding", stream_count=0),
    AssetState("ProduceFail", is_stored=False, is_analysed=False, has_snapshots=False, stream_count=0),
    AssetState("Uploading", is_stored=False, is_analysed=False, has_snapshots=False, stream_count=0),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the life of an upload."""

    #: When it happens: 0 at the announcement, 1 at the end of the life.
    share: float
    event_type: str
    #: The state after the step.
    state: AssetState
    #: For StreamTranscodeComplete: the position of the stream in PlayInfoList.
    stream: int = 0


@lru_cache(maxsize=1024)
def life_steps(outline: Outline, damaged: bool = False) -> tuple[Step, ...]:
    """Return the steps of an upload in their order. The analysis of a `damaged` file fails, and nothing follows."""
    announced = AssetState("Uploading", is_stored=False, is_analysed=False, has_snapshots=False, stream_count=0)
    stored = AssetState("UploadSucc", is_analysed=False, has_snapshots=False, stream_count=0)
    steps = [Step(0.0, "MediaBaseChangeComplete", announced), Step(0.15, "FileUploadComplete", stored)]
    if damaged:
        return (*steps, Step(0.35, "VideoAnalysisComplete", stored))
    status = "Transcoding" if outline.stream_count else "Normal"
    steps.append(Step(0.35, "VideoAnalysisComplete", AssetState(status, has_snapshots=False, stream_count=0)))
    if outline.is_video:
        steps.append(Step(0.45, "SnapshotComplete", AssetState(status, stream_count=0)))
    for number, share in enumerate(stream_shares(outline.stream_count)):
        steps.append(Step(share, "StreamTranscodeComplete", AssetState("Transcoding", stream_count=number + 1), number))
    if outline.stream_count:
        steps.append(Step(1.0, "TranscodeComplete", FINISHED))
    return tuple(steps)


def state_after(steps: tuple[Step, ...], elapsed: float, life_seconds: float) -> tuple[AssetState, float]:
    """Return the state `elapsed` seconds after the announcement, and when it was reached, in seconds after the announcement."""
    reached = steps[0]
    for step in steps:
        if step.share * life_seconds > elapsed:
            break
        reached = step
    return reached.state, reached.share * life_seconds


def visible_element(finished: JsonObject, state: AssetState, *, omit_empty_lists: bool) -> JsonObject:
    """Return what the API shows of a finished element in `state`: a new dict that may share nested dicts and lists with it.

    VOD does not document whether it sends a list that would be empty (vod-protocol 7.16), so both forms occur.
    """
    info = {**finished["MediaInfo"], "Status": state.status}
    if not state.has_snapshots:
        info.pop("CoverURL", None)
        info.pop("Snapshots", None)
    visible: JsonObject = {"MediaId": finished["MediaId"], "MediaInfo": info}
    if state.is_analysed:
        visible["MezzanineInfo"] = finished["MezzanineInfo"]
    elif state.is_stored:
        mezzanine = finished["MezzanineInfo"]
        visible["MezzanineInfo"] = {name: value for name, value in mezzanine.items() if name in _FIELDS_BEFORE_ANALYSIS}
        if not omit_empty_lists:
            visible["MezzanineInfo"] |= {"VideoStreamList": [], "AudioStreamList": []}
    elif not omit_empty_lists:
        visible["MezzanineInfo"] = {"MediaId": finished["MediaId"], "Status": "Uploading"}
    streams = finished.get("PlayInfoList", [])[: state.stream_count]
    if streams or not omit_empty_lists:
        visible["PlayInfoList"] = streams
    return visible
