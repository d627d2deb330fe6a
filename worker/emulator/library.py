"""Which media the account has, and what can be seen of them at a given moment.

Index 0 to `existing` - 1 is the library that was always there; uploads follow. What is kept is one record per upload request and
one per medium that somebody changed by hand: everything else is invented anew when it is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from worker.emulator import life, quirks
from worker.emulator.clock import iso
from worker.emulator.dice import Dice
from worker.emulator.footage import Outline, outline, shoot
from worker.emulator.identity import Identities
from worker.emulator.links import unsigned

#: The first medium of an old library: 2022-01-01T00:00:00Z. One more every minute, so that time order is index order.
LIBRARY_BEGINS = 1_640_995_200
SPACING = 60

#: Finished elements that are kept at hand, about 20 KB each.
_AT_HAND = 2_000

#: Fields of MediaInfo that may be changed by hand.
CHANGEABLE = frozenset(
    (
        "Title",
        "Description",
        "Status",
        "CateId",
        "CateName",
        "Tags",
        "CoverURL",
        "StorageClass",
        "DownloadSwitch",
        "UserData",
        "RestoreStatus",
        "RestoreExpiration",
    )
)


@dataclass(frozen=True, slots=True)
class Upload:
    """One request's worth of uploads, beginning at index `first`."""

    first: int
    count: int
    #: Unix seconds of the announcement.
    started_at: float
    life_seconds: float
    #: The files cannot be analysed.
    damaged: bool = False


@dataclass(slots=True)
class Change:
    """What was done to one medium by hand."""

    modified_at: float = 0.0
    fields: dict[str, Any] = field(default_factory=dict)
    deleted: bool = False
    source_deleted: bool = False
    dropped_jobs: set[str] = field(default_factory=set)


class Library:
    """All media of one seed."""

    def __init__(self, *, seed: int, existing: int, quirks: bool) -> None:
        self.identities = Identities(seed)
        self.existing = existing
        self.total = existing
        self._seed = seed
        self._quirks = quirks
        self._uploads: list[Upload] = []
        self._changes: dict[int, Change] = {}
        self._documented = lru_cache(maxsize=_AT_HAND)(self._invent)
        self._finished = lru_cache(maxsize=_AT_HAND)(self._invent_worded)

    def add(self, count: int, *, now: float, life_seconds: float, damaged: bool = False) -> Upload:
        """Announce `count` uploads that begin their lives at `now` (unix seconds)."""
        upload = Upload(self.total, count, now, life_seconds, damaged)
        self._uploads.append(upload)
        self.total += count
        return upload

    def index(self, media_id: str) -> int | None:
        """The index of a medium that exists or was deleted; None where there never was one."""
        index = self.identities.index(media_id)
        return index if index is not None and index < self.total else None

    def index_of_reference(self, reference_id: str) -> int | None:
        index = self.identities.index_of_reference(reference_id)
        return index if index is not None and index < self.total else None

    def deleted(self, index: int) -> bool:
        change = self._changes.get(index)
        return change is not None and change.deleted

    def upload(self, index: int) -> Upload | None:
        """The request that brought this medium; None where it was always there."""
        if index < self.existing:
            return None
        return self._uploads[bisect_right(self._uploads, index, key=lambda upload: upload.first) - 1]

    def outline(self, index: int) -> Outline:
        return outline(self._seed, index)

    def documented(self, index: int) -> dict[str, Any]:
        """The finished element before any quirk; treat it as read-only."""
        return self._documented(index)

    def steps(self, index: int) -> tuple[life.Step, ...]:
        """What happens, or happened, to an upload."""
        upload = self.upload(index)
        return life.steps(self.outline(index), upload is not None and upload.damaged)

    def element(self, index: int, now: float, sign: Callable[[str], str] = unsigned) -> dict[str, Any]:
        """The element of MediaInfos that the API would send at `now` (unix seconds), with its URLs passed through `sign`."""
        element, _ = self._seen(self._finished(index), index, now)
        self._sign(element, sign)
        return element

    def video(self, index: int, now: float, sign: Callable[[str], str] = unsigned) -> dict[str, Any]:
        """The Video object that GetVideoInfo would send (vod-protocol 9.7), in its older or newer edition."""
        element, standing = self._seen(self.documented(index), index, now)
        info, mezzanine = element["MediaInfo"], element.get("MezzanineInfo", {})
        media_id = info.pop("MediaId")
        dice = Dice(self._seed, index, "video")
        if info.get("CoverURL"):
            info["CoverURL"] = sign(info["CoverURL"])
        urls = [sign(url) for url in info.get("Snapshots", [])]
        blocked = info["Status"] == "Blocked"
        video = {
            "VideoId": media_id,
            **info,
            "Snapshots": {"Snapshot": urls},
            "RegionId": dice.pick(("cn-shanghai", "cn-shanghai", "cn-beijing")),
            "AuditStatus": "Blocked" if blocked else "Normal" if standing == life.FINISHED else "Init",
        }
        if "Size" in mezzanine:
            video["Size"] = mezzanine["Size"]
        if "Duration" in mezzanine:
            video["Duration"] = float(mezzanine["Duration"])
        if self._quirks:
            quirks.reword_video(video, media_id, urls, dice)
        return video

    def change(self, index: int, fields: dict[str, Any], now: float) -> dict[str, Any]:
        """Set fields of MediaInfo (see CHANGEABLE); the former values of those that had one."""
        before = self.element(index, now)["MediaInfo"]
        change = self._changes.setdefault(index, Change())
        change.fields |= fields
        change.modified_at = now
        return {name: before[name] for name in fields if before.get(name) is not None}

    def delete(self, index: int, now: float, *, source: bool = False, jobs: tuple[str, ...] = ()) -> None:
        """Delete the whole medium, or only its source file, or only the streams of `jobs`."""
        change = self._changes.setdefault(index, Change())
        change.modified_at = now
        if jobs:
            change.dropped_jobs.update(jobs)
        elif source:
            change.source_deleted = True
        else:
            change.deleted = True

    def _seen(self, finished: dict[str, Any], index: int, now: float) -> tuple[dict[str, Any], life.Standing]:
        """What is there to be seen of a finished element at `now`, in fresh outer dicts, and why."""
        standing, modified_at = self._standing(index, now)
        element = life.visible(finished, standing, terse=self._quirks and quirks.terse(finished["MediaId"]))
        if modified_at is not None:
            element["MediaInfo"]["ModificationTime"] = iso(modified_at)
        if (change := self._changes.get(index)) is not None:
            _apply(change, element)
        return element, standing

    def _standing(self, index: int, now: float) -> tuple[life.Standing, float | None]:
        upload = self.upload(index)
        if upload is None:
            return Dice(self._seed, index, "rest").pick(life.RESTING_PLACES), None
        standing, after = life.standing_after(self.steps(index), now - upload.started_at, upload.life_seconds)
        return standing, upload.started_at + after

    def _invent(self, index: int) -> dict[str, Any]:
        upload = self.upload(index)
        if upload is None:
            created_at: float = LIBRARY_BEGINS + index * SPACING + Dice(self._seed, index, "second").below(SPACING)
            life_seconds = 300.0
        else:
            created_at, life_seconds = upload.started_at, upload.life_seconds
        return shoot(
            self._seed,
            index,
            media_id=self.identities.media_id(index),
            reference_id=self.identities.reference_id(index),
            created_at=created_at,
            life_seconds=life_seconds,
        )

    def _invent_worded(self, index: int) -> dict[str, Any]:
        element = self._invent(index)
        if self._quirks:
            quirks.reword(element, Dice(self._seed, index, "quirks"))
        return element

    def _sign(self, element: dict[str, Any], sign: Callable[[str], str]) -> None:
        info = element["MediaInfo"]
        if info.get("CoverURL"):
            info["CoverURL"] = sign(info["CoverURL"])
        if "Snapshots" in info:
            urls = [sign(url) for url in info["Snapshots"]]
            info["Snapshots"] = quirks.snapshot_list(element["MediaId"], urls) if self._quirks else urls
        mezzanine = element.get("MezzanineInfo")
        if mezzanine is not None and "FileURL" in mezzanine:
            element["MezzanineInfo"] = {**mezzanine, "FileURL": sign(mezzanine["FileURL"])}
        if "PlayInfoList" in element:
            element["PlayInfoList"] = [{**stream, "PlayURL": sign(stream["PlayURL"])} for stream in element["PlayInfoList"]]


def _apply(change: Change, element: dict[str, Any]) -> None:
    element["MediaInfo"] |= change.fields
    element["MediaInfo"]["ModificationTime"] = iso(change.modified_at)
    if change.source_deleted and "MezzanineInfo" in element:
        element["MezzanineInfo"] = {"MediaId": element["MediaId"], "Status": "Deleted"}
    if change.dropped_jobs and "PlayInfoList" in element:
        element["PlayInfoList"] = [stream for stream in element["PlayInfoList"] if stream["JobId"] not in change.dropped_jobs]
