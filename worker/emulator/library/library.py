"""Which media the account has, and what can be seen of them at a given moment.

Index 0 to `existing` - 1 is the library that was always there; uploads follow. What is kept is one record per upload request and
one per medium that somebody changed by hand: everything else is invented anew when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from worker.emulator.library import lifecycle, quirks
from worker.emulator.library.clock import iso
from worker.emulator.library.links import unsigned
from worker.emulator.library.media_factory import Outline, Sketch, outline, shoot, sketch
from worker.emulator.library.media_ids import MediaIds
from worker.emulator.library.seeded_random import SeededRandom, roll
from worker.emulator.library.timeline import LIBRARY_LIFE, Timeline, Upload

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
class Change:
    """What was done to one medium by hand up to a moment, and how it stood before the last deed."""

    modified_at: float = 0.0
    fields: Mapping[str, Any] = field(default_factory=dict)
    deleted: bool = False
    source_deleted: bool = False
    dropped_jobs: frozenset[str] = frozenset()
    before: Change | None = None

    def seen_at(self, moment: float) -> Change | None:
        """What had been done by `moment`."""
        change: Change | None = self
        while change is not None and change.modified_at > moment:
            change = change.before
        return change


class Library:
    """All media of one seed."""

    def __init__(self, *, seed: int, existing: int, quirks: bool) -> None:
        self.identities = MediaIds(seed)
        self.timeline = Timeline(seed=seed, existing=existing)
        #: Grows with everything that is done by hand.
        self.version = 0
        self.seed = seed
        self._quirks = quirks
        self._changes: dict[int, Change] = {}
        self._documented = lru_cache(maxsize=_AT_HAND)(self._invent)
        self._finished = lru_cache(maxsize=_AT_HAND)(self._invent_worded)

    def add(self, count: int, *, now: float, life_seconds: float, damaged: bool = False) -> Upload:
        """Announce `count` uploads that begin their lives at `now` (unix seconds)."""
        self.version += 1
        return self.timeline.add(count, now=now, life_seconds=life_seconds, damaged=damaged)

    @property
    def total(self) -> int:
        return self.timeline.total

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

    def changed(self) -> Iterable[tuple[int, Change]]:
        """Every index that somebody laid hands on."""
        return self._changes.items()

    def changed_by(self, index: int, moment: float) -> Change | None:
        """What had been done to this medium by hand at `moment`."""
        change = self._changes.get(index)
        return None if change is None else change.seen_at(moment)

    def upload(self, index: int) -> Upload | None:
        """The request that brought this medium; None where it was always there."""
        return self.timeline.upload(index)

    def outline(self, index: int) -> Outline:
        return outline(self.seed, index)

    def documented(self, index: int) -> dict[str, Any]:
        """The finished element before any quirk; treat it as read-only."""
        return self._documented(index)

    def steps(self, index: int) -> tuple[lifecycle.Step, ...]:
        """What happens, or happened, to an upload."""
        upload = self.upload(index)
        return lifecycle.steps(self.outline(index), upload is not None and upload.damaged)

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
        dice = SeededRandom(self.seed, index, "video")
        if info.get("CoverURL"):
            info["CoverURL"] = sign(info["CoverURL"])
        urls = [sign(url) for url in info.get("Snapshots", [])]
        blocked = info["Status"] == "Blocked"
        video = {
            "VideoId": media_id,
            **info,
            "Snapshots": {"Snapshot": urls},
            "RegionId": dice.pick(("cn-shanghai", "cn-shanghai", "cn-beijing")),
            "AuditStatus": "Blocked" if blocked else "Normal" if standing == lifecycle.FINISHED else "Init",
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
        former = self._changes.get(index)
        change = former or Change()
        self._record(index, replace(change, modified_at=now, fields={**change.fields, **fields}, before=former))
        return {name: before[name] for name in fields if before.get(name) is not None}

    def delete(self, index: int, now: float, *, source: bool = False, jobs: tuple[str, ...] = ()) -> None:
        """Delete the whole medium, or only its source file, or only the streams of `jobs`."""
        former = self._changes.get(index)
        change = replace(former or Change(), modified_at=now, before=former)
        if jobs:
            self._record(index, replace(change, dropped_jobs=change.dropped_jobs.union(jobs)))
        elif source:
            self._record(index, replace(change, source_deleted=True))
        else:
            self._record(index, replace(change, deleted=True))

    def sketch(self, index: int) -> Sketch:
        """The finished medium but for its transcoded streams, before any quirk: a third of the work."""
        created_at, life_seconds = self._life(index)
        return sketch(
            self.seed,
            index,
            media_id=self.identities.media_id(index),
            reference_id=self.identities.reference_id(index),
            created_at=created_at,
            life_seconds=life_seconds,
        )

    def standing(self, index: int, now: float) -> tuple[lifecycle.Standing, float | None]:
        """How far a medium has come by `now`, and since when (unix seconds); None where it was always there."""
        upload = self.upload(index)
        if upload is None:
            return lifecycle.RESTING_PLACES[roll(len(lifecycle.RESTING_PLACES), self.seed, index, "rest")], None
        standing, after = lifecycle.standing_after(self.steps(index), now - upload.started_at, upload.life_seconds)
        return standing, upload.started_at + after

    def _record(self, index: int, change: Change) -> None:
        self._changes[index] = change
        self.version += 1

    def _seen(self, finished: dict[str, Any], index: int, now: float) -> tuple[dict[str, Any], lifecycle.Standing]:
        """What is there to be seen of a finished element at `now`, in fresh outer dicts, and why."""
        standing, modified_at = self.standing(index, now)
        element = lifecycle.visible(finished, standing, terse=self._quirks and quirks.terse(finished["MediaId"]))
        if modified_at is not None:
            element["MediaInfo"]["ModificationTime"] = iso(modified_at)
        if (change := self._changes.get(index)) is not None:
            _apply(change, element)
        return element, standing

    def _life(self, index: int) -> tuple[float, float]:
        upload = self.upload(index)
        return self.timeline.created_at(index), LIBRARY_LIFE if upload is None else upload.life_seconds

    def _invent(self, index: int) -> dict[str, Any]:
        created_at, life_seconds = self._life(index)
        return shoot(self.sketch(index), created_at=created_at, life_seconds=life_seconds)

    def _invent_worded(self, index: int) -> dict[str, Any]:
        element = self._invent(index)
        if self._quirks:
            quirks.reword(element, SeededRandom(self.seed, index, "quirks"))
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
