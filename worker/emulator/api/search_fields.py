"""What the search index knows of one medium, worked out no further than somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from worker.emulator.api.match import IDS, TIMES
from worker.emulator.library import lifecycle
from worker.emulator.library.clock import iso
from worker.emulator.library.library import Change, Library
from worker.emulator.library.media_factory import Sketch, is_video
from worker.emulator.library.timeline import LIBRARY_LIFE

#: Optional fields of Video and Audio (vod-protocol 6.1) that stand in MediaInfo too.
_OF_MEDIA_INFO = frozenset(
    (
        *("Title", "Description", "Tags", "CateId", "CateName", "StorageLocation", "StorageClass", "DownloadSwitch", "AppId"),
        *("ReferenceId", "RestoreStatus", "RestoreExpiration", "TemplateGroupId", "UserData"),
    )
)
_ALWAYS = {"MediaSource": "general", "PreprocessStatus": "UnPreprocess", "TranscodeMode": "NoTranscode"}

#: Sketches at hand, 5 KB each: what a condition looked at is often listed next.
_AT_HAND = 500


class FactCache:
    """Facts about the media of one library."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.sketch: Callable[[int], Sketch] = lru_cache(maxsize=_AT_HAND)(library.sketch)

    def untouched(self, index: int, seen_at: float) -> MediaFacts:
        """A medium as it would be at `seen_at` if nobody had laid hands on it."""
        return MediaFacts(self, index, seen_at, None)

    def seen(self, index: int, seen_at: float) -> MediaFacts:
        return MediaFacts(self, index, seen_at, self.library.changed_by(index, seen_at))


class MediaFacts:
    """One medium at one moment."""

    __slots__ = ("_album", "_change", "_created_at", "_media_id", "_since", "_standing", "index", "seen_at")

    def __init__(self, album: FactCache, index: int, seen_at: float, change: Change | None) -> None:
        self.index = index
        self.seen_at = seen_at
        self._album = album
        self._change = change
        self._standing: lifecycle.Standing | None = None
        self._since: float | None = None
        self._media_id = ""
        self._created_at: int | None = None

    @property
    def media_id(self) -> str:
        if not self._media_id:
            self._media_id = self._album.library.identities.media_id(self.index)
        return self._media_id

    @property
    def video(self) -> bool:
        """False where it is an audio."""
        return is_video(self._album.library.seed, self.index)

    @property
    def deleted(self) -> bool:
        return self._change is not None and self._change.deleted

    @property
    def created_at(self) -> int:
        """Whole unix seconds, as the API shows them."""
        if self._created_at is None:
            self._created_at = int(self._album.library.timeline.created_at(self.index))
        return self._created_at

    @property
    def modified_at(self) -> int:
        if self._change is not None:
            return int(self._change.modified_at)
        if self.index < self._album.library.timeline.existing:
            return self.created_at + LIBRARY_LIFE
        self._look()
        return int(self._since or 0)

    def number(self, name: str) -> float | None:
        """CreationTime, ModificationTime, Size or Duration."""
        if name in TIMES:
            return self.created_at if name == "CreationTime" else self.modified_at
        value = self.value(name)
        return None if value is None else float(value)

    def text(self, name: str) -> str | None:
        """A field as Match compares it."""
        value = self.media_id if name in IDS else self.value(name)
        return None if value is None else str(value)

    def value(self, name: str) -> Any:
        """A field of the Video or Audio object, with bare URLs; None where there is none."""
        if name in TIMES:
            return iso(self.created_at if name == "CreationTime" else self.modified_at)
        if self._change is not None and name in self._change.fields:
            return self._change.fields[name]
        if name == "Status":
            return self._look().status
        if name in _OF_MEDIA_INFO:
            return self._album.sketch(self.index).media_info.get(name)
        if name in ("CoverURL", "Snapshots"):
            return self._album.sketch(self.index).media_info.get(name) if self._look().pictured else None
        if name == "Size":
            return self._album.sketch(self.index).mezzanine[name] if self._look().stored else None
        if name == "Duration":
            return float(self._album.sketch(self.index).mezzanine[name]) if self._look().analysed else None
        return _ALWAYS.get(name)

    def _look(self) -> lifecycle.Standing:
        if self._standing is None:
            self._standing, self._since = self._album.library.standing(self.index, self.seen_at)
        return self._standing
