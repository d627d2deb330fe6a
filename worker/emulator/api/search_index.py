"""The fields of assets that SearchMedia filters, sorts and lists, computed only when they are read."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from worker.emulator.api.match import ID_FIELDS, TIME_FIELDS
from worker.emulator.library import lifecycle
from worker.emulator.library.library import Change, Library
from worker.emulator.library.media_factory import UntranscodedAsset, is_video
from worker.emulator.library.timeline import LIBRARY_LIFE
from worker.emulator.library.timestamps import format_utc

#: Optional fields of Video and Audio (vod-protocol 6.1) that are in MediaInfo too.
_MEDIA_INFO_FIELDS = frozenset(
    (
        *("Title", "Description", "Tags", "CateId", "CateName", "StorageLocation", "StorageClass", "DownloadSwitch", "AppId"),
        *("ReferenceId", "RestoreStatus", "RestoreExpiration", "TemplateGroupId", "UserData"),
    )
)
#: Fields with the same value for every asset.
_CONSTANT_FIELDS = {"MediaSource": "general", "PreprocessStatus": "UnPreprocess", "TranscodeMode": "NoTranscode"}

#: Cached assets, 5 KB each: an asset that a condition has read is often listed next.
_MAX_CACHED_ASSETS = 500


class SearchIndex:
    """The assets of one library as the search sees them."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.untranscoded: Callable[[int], UntranscodedAsset] = lru_cache(maxsize=_MAX_CACHED_ASSETS)(library.untranscoded)

    def asset(self, index: int, seen_at: float) -> IndexedAsset:
        """Return an asset at `seen_at` (unix seconds)."""
        return IndexedAsset(self, index, seen_at, self.library.change_at(index, seen_at))

    def unchanged_asset(self, index: int, seen_at: float) -> IndexedAsset:
        """Return an asset at `seen_at` (unix seconds) without its manual changes."""
        return IndexedAsset(self, index, seen_at, None)


class IndexedAsset:
    """One asset at one moment."""

    __slots__ = ("_change", "_created_at", "_media_id", "_search_index", "_state", "_state_reached_at", "index", "seen_at")

    def __init__(self, search_index: SearchIndex, index: int, seen_at: float, change: Change | None) -> None:
        self.index = index
        self.seen_at = seen_at
        self._search_index = search_index
        self._change = change
        self._state: lifecycle.AssetState | None = None
        self._state_reached_at: float | None = None
        self._media_id = ""
        self._created_at: int | None = None

    @property
    def media_id(self) -> str:
        if not self._media_id:
            self._media_id = self._search_index.library.ids.media_id(self.index)
        return self._media_id

    @property
    def is_video(self) -> bool:
        """Return True for a video, False for an audio."""
        return is_video(self._search_index.library.seed, self.index)

    @property
    def is_deleted(self) -> bool:
        return self._change is not None and self._change.is_deleted

    @property
    def created_at(self) -> int:
        """Return whole unix seconds, the precision of the API."""
        if self._created_at is None:
            self._created_at = int(self._search_index.library.timeline.created_at(self.index))
        return self._created_at

    @property
    def modified_at(self) -> int:
        """Return whole unix seconds, the precision of the API."""
        if self._change is not None:
            return int(self._change.modified_at)
        if self.index < self._search_index.library.timeline.existing:
            return self.created_at + LIBRARY_LIFE
        self._load_state()
        return int(self._state_reached_at or 0)

    def number(self, name: str) -> float | None:
        """Return CreationTime, ModificationTime (unix seconds), Size (bytes) or Duration (seconds); None if it is not known yet."""
        if name in TIME_FIELDS:
            return self.created_at if name == "CreationTime" else self.modified_at
        value = self.value(name)
        return None if value is None else float(value)

    def text(self, name: str) -> str | None:
        """Return a field in the form that Match compares, or None if the asset does not have it."""
        value = self.media_id if name in ID_FIELDS else self.value(name)
        return None if value is None else str(value)

    def value(self, name: str) -> Any:  # the fields have different JSON types
        """Return a field of the Video or Audio object, with bare URLs, or None if the asset does not have it."""
        if name in TIME_FIELDS:
            return format_utc(self.created_at if name == "CreationTime" else self.modified_at)
        if self._change is not None and name in self._change.fields:
            return self._change.fields[name]
        if name == "Status":
            return self._load_state().status
        if name in _MEDIA_INFO_FIELDS:
            return self._untranscoded().media_info.get(name)
        if name in ("CoverURL", "Snapshots"):
            return self._untranscoded().media_info.get(name) if self._load_state().has_snapshots else None
        if name == "Size":
            return self._untranscoded().mezzanine[name] if self._load_state().is_stored else None
        if name == "Duration":
            return float(self._untranscoded().mezzanine[name]) if self._load_state().is_analysed else None
        return _CONSTANT_FIELDS.get(name)

    def _untranscoded(self) -> UntranscodedAsset:
        return self._search_index.untranscoded(self.index)

    def _load_state(self) -> lifecycle.AssetState:
        if self._state is None:
            self._state, self._state_reached_at = self._search_index.library.state(self.index, self.seen_at)
        return self._state
