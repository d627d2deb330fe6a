"""The media assets of one account, and what the API shows of them at a given time.

Indices from 0 to `existing` - 1 are the library that exists before the first upload; uploads follow. The library stores one record
per upload request and one per asset that was changed manually. Everything else is made again when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from worker.emulator.library import lifecycle, quirks
from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.media_factory import (
    Outline,
    UntranscodedAsset,
    add_transcoded_streams,
    make_outline,
    make_untranscoded,
)
from worker.emulator.library.media_ids import MediaIds
from worker.emulator.library.seeded_random import SeededRandom, draw
from worker.emulator.library.signed_urls import keep_unsigned
from worker.emulator.library.timeline import LIBRARY_LIFE, Timeline, Upload
from worker.emulator.library.timestamps import format_utc

#: Finished elements in each of the two caches, about 20 KB each.
_MAX_CACHED_ELEMENTS = 2_000

#: Fields of MediaInfo that a manual change may set.
CHANGEABLE_FIELDS = frozenset(
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
    """All manual changes of one asset up to `modified_at` (unix seconds)."""

    modified_at: float = 0.0
    #: New values of fields of MediaInfo.
    fields: Mapping[str, object] = field(default_factory=dict)
    is_deleted: bool = False
    is_file_deleted: bool = False
    deleted_job_ids: frozenset[str] = frozenset()
    #: The same without the last change.
    previous: Change | None = None

    def as_of(self, moment: float) -> Change | None:
        """Return the changes up to `moment`, or None if there were none yet."""
        change: Change | None = self
        while change is not None and change.modified_at > moment:
            change = change.previous
        return change


class Library:
    """All media assets of one seed. Times are unix seconds."""

    def __init__(self, *, seed: int, existing: int, quirks: bool) -> None:
        self.ids = MediaIds(seed)
        self.timeline = Timeline(seed=seed, existing=existing)
        #: Increases with every upload, change and deletion.
        self.version = 0
        self.seed = seed
        self._has_quirks = quirks
        self._changes: dict[int, Change] = {}
        self._documented = lru_cache(maxsize=_MAX_CACHED_ELEMENTS)(self._make_documented)
        self._finished = lru_cache(maxsize=_MAX_CACHED_ELEMENTS)(self._make_finished)

    def add(self, count: int, *, now: float, life_seconds: float, damaged: bool = False) -> Upload:
        """Add `count` uploads that are announced at `now` and finished `life_seconds` later."""
        self.version += 1
        return self.timeline.add(count, now=now, life_seconds=life_seconds, damaged=damaged)

    @property
    def total(self) -> int:
        """Return the number of assets, including deleted ones."""
        return self.timeline.total

    def index(self, media_id: str) -> int | None:
        """Return the index of an asset that exists or was deleted, or None for an unknown id."""
        index = self.ids.index(media_id)
        return index if index is not None and index < self.total else None

    def index_of_reference_id(self, reference_id: str) -> int | None:
        """Return the index of an asset by the customer's own id, or None for an unknown id."""
        index = self.ids.index_of_reference_id(reference_id)
        return index if index is not None and index < self.total else None

    def is_deleted(self, index: int) -> bool:
        """Return True if the asset was deleted manually."""
        change = self._changes.get(index)
        return change is not None and change.is_deleted

    def changes(self) -> Iterable[tuple[int, Change]]:
        """Return every index with a manual change, and its changes."""
        return self._changes.items()

    def change_at(self, index: int, moment: float) -> Change | None:
        """Return the manual changes of an asset up to `moment`, or None if there were none yet."""
        change = self._changes.get(index)
        return None if change is None else change.as_of(moment)

    def upload(self, index: int) -> Upload | None:
        """Return the request that uploaded this asset, or None if the asset existed from the start."""
        return self.timeline.upload(index)

    def outline(self, index: int) -> Outline:
        """Return the kind of an asset and the number of its streams."""
        return make_outline(self.seed, index)

    def documented_element(self, index: int) -> JsonObject:
        """Return the finished element before any quirk. It is cached: do not change it."""
        return self._documented(index)

    def steps(self, index: int) -> tuple[lifecycle.Step, ...]:
        """Return the steps in the life of an upload, past and future."""
        upload = self.upload(index)
        return lifecycle.life_steps(self.outline(index), upload is not None and upload.damaged)

    def element(self, index: int, now: float, sign: Callable[[str], str] = keep_unsigned) -> JsonObject:
        """Return the element of MediaInfos that the API sends at `now`, with its URLs passed through `sign`."""
        element, _ = self._visible(self._finished(index), index, now)
        self._sign_urls(element, sign)
        return element

    def video(self, index: int, now: float, sign: Callable[[str], str] = keep_unsigned) -> JsonObject:
        """Return the Video object of GetVideoInfo at `now`, in its older or newer form (vod-protocol 9.7)."""
        element, state = self._visible(self.documented_element(index), index, now)
        info, mezzanine = element["MediaInfo"], element.get("MezzanineInfo", {})
        media_id = info.pop("MediaId")
        rng = SeededRandom(self.seed, index, "video")
        if info.get("CoverURL"):
            info["CoverURL"] = sign(info["CoverURL"])
        urls = [sign(url) for url in info.get("Snapshots", [])]
        is_blocked = info["Status"] == "Blocked"
        video = {
            "VideoId": media_id,
            **info,
            "Snapshots": {"Snapshot": urls},
            "RegionId": rng.pick(("cn-shanghai", "cn-shanghai", "cn-beijing")),
            "AuditStatus": "Blocked" if is_blocked else "Normal" if state == lifecycle.FINISHED else "Init",
        }
        if "Size" in mezzanine:
            video["Size"] = mezzanine["Size"]
        if "Duration" in mezzanine:
            video["Duration"] = float(mezzanine["Duration"])
        if self._has_quirks:
            quirks.apply_to_video(video, media_id, urls, rng)
        return video

    def change(self, index: int, fields: JsonObject, now: float) -> JsonObject:
        """Set fields of MediaInfo (see CHANGEABLE_FIELDS) and return the old values of those that had one."""
        old_values = self.element(index, now)["MediaInfo"]
        previous = self._changes.get(index)
        change = previous or Change()
        self._record(index, replace(change, modified_at=now, fields={**change.fields, **fields}, previous=previous))
        return {name: old_values[name] for name in fields if old_values.get(name) is not None}

    def delete(self, index: int, now: float, *, file_only: bool = False, job_ids: tuple[str, ...] = ()) -> None:
        """Delete the whole asset, or only its source file, or only the transcoded streams of `job_ids`."""
        previous = self._changes.get(index)
        change = replace(previous or Change(), modified_at=now, previous=previous)
        if job_ids:
            self._record(index, replace(change, deleted_job_ids=change.deleted_job_ids.union(job_ids)))
        elif file_only:
            self._record(index, replace(change, is_file_deleted=True))
        else:
            self._record(index, replace(change, is_deleted=True))

    def untranscoded(self, index: int) -> UntranscodedAsset:
        """Return the finished asset without its transcoded streams and before any quirk: a third of the work."""
        created_at, life_seconds = self._life(index)
        return make_untranscoded(
            self.seed,
            index,
            media_id=self.ids.media_id(index),
            reference_id=self.ids.reference_id(index),
            created_at=created_at,
            life_seconds=life_seconds,
        )

    def state(self, index: int, now: float) -> tuple[lifecycle.AssetState, float | None]:
        """Return the state of an asset at `now` and when it was reached; None for an asset that existed from the start."""
        upload = self.upload(index)
        if upload is None:
            return lifecycle.LIBRARY_STATES[draw(len(lifecycle.LIBRARY_STATES), self.seed, index, "rest")], None
        state, after = lifecycle.state_after(self.steps(index), now - upload.started_at, upload.life_seconds)
        return state, upload.started_at + after

    def _record(self, index: int, change: Change) -> None:
        self._changes[index] = change
        self.version += 1

    def _visible(self, finished: JsonObject, index: int, now: float) -> tuple[JsonObject, lifecycle.AssetState]:
        """Return what the API shows of a finished element at `now`, and the state of the asset.

        The element and its MediaInfo are new dicts; deeper ones are shared with `finished`.
        """
        state, modified_at = self.state(index, now)
        omit_empty_lists = self._has_quirks and quirks.omits_empty_lists(finished["MediaId"])
        element = lifecycle.visible_element(finished, state, omit_empty_lists=omit_empty_lists)
        if modified_at is not None:
            element["MediaInfo"]["ModificationTime"] = format_utc(modified_at)
        if (change := self._changes.get(index)) is not None:
            _apply(change, element)
        return element, state

    def _life(self, index: int) -> tuple[float, float]:
        """Return when the asset was created and how many seconds later it was finished."""
        upload = self.upload(index)
        return self.timeline.created_at(index), LIBRARY_LIFE if upload is None else upload.life_seconds

    def _make_documented(self, index: int) -> JsonObject:
        created_at, life_seconds = self._life(index)
        return add_transcoded_streams(self.untranscoded(index), created_at=created_at, life_seconds=life_seconds)

    def _make_finished(self, index: int) -> JsonObject:
        element = self._make_documented(index)
        if self._has_quirks:
            quirks.apply_to_element(element, SeededRandom(self.seed, index, "quirks"))
        return element

    def _sign_urls(self, element: JsonObject, sign: Callable[[str], str]) -> None:
        info = element["MediaInfo"]
        if info.get("CoverURL"):
            info["CoverURL"] = sign(info["CoverURL"])
        if "Snapshots" in info:
            urls = [sign(url) for url in info["Snapshots"]]
            info["Snapshots"] = quirks.snapshot_list(element["MediaId"], urls) if self._has_quirks else urls
        mezzanine = element.get("MezzanineInfo")
        if mezzanine is not None and "FileURL" in mezzanine:
            element["MezzanineInfo"] = {**mezzanine, "FileURL": sign(mezzanine["FileURL"])}
        if "PlayInfoList" in element:
            element["PlayInfoList"] = [{**stream, "PlayURL": sign(stream["PlayURL"])} for stream in element["PlayInfoList"]]


def _apply(change: Change, element: JsonObject) -> None:
    element["MediaInfo"] |= change.fields
    element["MediaInfo"]["ModificationTime"] = format_utc(change.modified_at)
    if change.is_file_deleted and "MezzanineInfo" in element:
        element["MezzanineInfo"] = {"MediaId": element["MediaId"], "Status": "Deleted"}
    if change.deleted_job_ids and "PlayInfoList" in element:
        element["PlayInfoList"] = [stream for stream in element["PlayInfoList"] if stream["JobId"] not in change.deleted_job_ids]
