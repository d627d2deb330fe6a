"""Compute when each asset was created, and which assets exist at a given time.

Indices are in the order of creation: first the existing library, one asset per minute, then the uploads. A time range is therefore
an index range, found by arithmetic. The only thing stored is one record per upload request.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from worker.emulator.library.seeded_random import draw

#: Creation of the first asset of the existing library in unix seconds: 2022-01-01T00:00:00Z.
LIBRARY_START = 1_640_995_200
#: Seconds between two assets of the existing library; 2,500,000 assets reach until autumn 2026.
CREATION_INTERVAL = 60
#: Seconds from the creation of an asset of the existing library to its last modification.
LIBRARY_LIFE = 300


@dataclass(frozen=True, slots=True)
class Upload:
    """The uploads of one request, from index `first` on."""

    first: int
    count: int
    #: When the uploads are announced, in unix seconds.
    started_at: float
    #: From the announcement to the last transcoded stream.
    life_seconds: float
    #: The files cannot be analysed.
    damaged: bool = False


class Timeline:
    """All assets of one seed in the order of their creation. Times are unix seconds."""

    def __init__(self, *, seed: int, existing: int) -> None:
        self.existing = existing
        self.total = existing
        self._seed = seed
        self._uploads: list[Upload] = []
        #: For each upload request: when it and all requests before it are finished.
        self._finished_at: list[float] = []

    def add(self, count: int, *, now: float, life_seconds: float, damaged: bool = False) -> Upload:
        """Add `count` uploads that are announced at `now`."""
        upload = Upload(self.total, count, now, life_seconds, damaged)
        self._finished_at.append(max(now + life_seconds, self._finished_at[-1] if self._finished_at else 0))
        self._uploads.append(upload)
        self.total += count
        return upload

    def upload(self, index: int) -> Upload | None:
        """Return the request that uploaded this asset, or None if the asset belongs to the existing library."""
        if index < self.existing:
            return None
        return self._uploads[bisect_right(self._uploads, index, key=lambda upload: upload.first) - 1]

    def created_at(self, index: int) -> float:
        """Return the time of creation."""
        upload = self.upload(index)
        if upload is not None:
            return upload.started_at
        return LIBRARY_START + index * CREATION_INTERVAL + draw(CREATION_INTERVAL, self._seed, index, "second")

    def announced_count(self, moment: float) -> int:
        """Return how many assets exist at `moment`; they are the indices below this number."""
        return self._first(bisect_right(self._uploads, moment, key=lambda upload: upload.started_at))

    def finished_count(self, moment: float) -> int:
        """Return the number below which all indices have reached their final state at `moment`."""
        return self._first(bisect_right(self._finished_at, moment))

    def first_existing_since(self, second: int) -> int:
        """Return the first index of the existing library that was created in `second` or later."""
        index = (second - LIBRARY_START) // CREATION_INTERVAL
        if not 0 <= index < self.existing:
            return 0 if index < 0 else self.existing
        return index if self.created_at(index) >= second else index + 1

    def first_upload_since(self, second: int) -> int:
        """Return the first index of the uploads that was announced in `second` or later."""
        return self._first(bisect_left(self._uploads, second, key=lambda upload: int(upload.started_at)))

    def _first(self, number: int) -> int:
        return self._uploads[number].first if number < len(self._uploads) else self.total
