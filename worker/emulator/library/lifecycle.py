"""How far a medium has come, and how much of it the API shows by then.

announced -> stored -> analysed -> pictured -> transcoded, stream by stream -> finished. Each of these steps is also an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from worker.emulator.library.media_factory import Outline, stream_shares

_ALL = 1_000_000

#: What MezzanineInfo holds before anybody has looked into the file.
_UNANALYSED = ("MediaId", "Status", "FileName", "FileURL", "FileMD5", "CreationTime", "Size")


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a medium at one moment: MediaInfo.Status, and what is there to be seen."""

    status: str
    stored: bool = True
    analysed: bool = True
    pictured: bool = True
    #: Transcoded streams that are there, in the order in which they finish.
    streams: int = _ALL


FINISHED = Standing("Normal")

#: Where media of an old library have come to rest. Most are finished; the others are what every real library contains.
RESTING_PLACES = (
    *(FINISHED,) * 90,
    Standing("Blocked"),
    Standing("Blocked"),
    Standing("Checking"),
    Standing("UploadSucc", streams=0),
    Standing("UploadSucc", streams=0),
    Standing("TranscodeFail", streams=0),
    Standing("TranscodeFail", streams=0),
    Standing("Transcoding", streams=0),
    Standing("ProduceFail", stored=False, analysed=False, pictured=False, streams=0),
    Standing("Uploading", stored=False, analysed=False, pictured=False, streams=0),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens in a life: when (as a share of the life), which event tells of it, what stands afterwards."""

    share: float
    event_type: str
    standing: Standing
    #: For StreamTranscodeComplete: which stream.
    stream: int = 0


@lru_cache(maxsize=1024)
def steps(plan: Outline, damaged: bool = False) -> tuple[Step, ...]:
    """The life of an upload, in order; `damaged` is a file that cannot be analysed."""
    stored = Standing("UploadSucc", analysed=False, pictured=False, streams=0)
    life = [
        Step(0.0, "MediaBaseChangeComplete", Standing("Uploading", stored=False, analysed=False, pictured=False, streams=0)),
        Step(0.15, "FileUploadComplete", stored),
    ]
    if damaged:
        return (*life, Step(0.35, "VideoAnalysisComplete", stored))
    waiting = "Transcoding" if plan.streams else "Normal"
    life.append(Step(0.35, "VideoAnalysisComplete", Standing(waiting, pictured=False, streams=0)))
    if plan.video:
        life.append(Step(0.45, "SnapshotComplete", Standing(waiting, streams=0)))
    for number, share in enumerate(stream_shares(plan.streams)):
        life.append(Step(share, "StreamTranscodeComplete", Standing("Transcoding", streams=number + 1), number))
    if plan.streams:
        life.append(Step(1.0, "TranscodeComplete", FINISHED))
    return tuple(life)


def standing_after(life: tuple[Step, ...], elapsed: float, life_seconds: float) -> tuple[Standing, float]:
    """What stands `elapsed` seconds after the announcement, and for how many of them it was already so at that moment."""
    reached = life[0]
    for step in life:
        if step.share * life_seconds > elapsed:
            break
        reached = step
    return reached.standing, reached.share * life_seconds


def visible(element: Mapping[str, Any], standing: Standing, *, terse: bool) -> dict[str, Any]:
    """What the API shows of a finished element at `standing`; a new dict, whose nested ones may be shared.

    Nobody documents whether a list that would be empty is sent (vod-protocol 7.16): `terse` leaves it out.
    """
    info = {**element["MediaInfo"], "Status": standing.status}
    if not standing.pictured:
        info.pop("CoverURL", None)
        info.pop("Snapshots", None)
    shown: dict[str, Any] = {"MediaId": element["MediaId"], "MediaInfo": info}
    if standing.analysed:
        shown["MezzanineInfo"] = element["MezzanineInfo"]
    elif standing.stored:
        shown["MezzanineInfo"] = {name: value for name, value in element["MezzanineInfo"].items() if name in _UNANALYSED}
        if not terse:
            shown["MezzanineInfo"] |= {"VideoStreamList": [], "AudioStreamList": []}
    elif not terse:
        shown["MezzanineInfo"] = {"MediaId": element["MediaId"], "Status": "Uploading"}
    streams = element.get("PlayInfoList", [])[: standing.streams]
    if streams or not terse:
        shown["PlayInfoList"] = streams
    return shown
