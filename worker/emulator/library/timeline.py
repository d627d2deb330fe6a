"""When each medium was created, and which ones were there by a given moment.

Time order is index order: the existing library comes first, one medium a minute, and uploads follow. So a span of time is a span
of indices, found by arithmetic, and nothing has to be kept but one record per upload request.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from worker.emulator.library.seeded_random import roll

#: The first medium of an old library: 2022-01-01T00:00:00Z. One more every minute; 2,500,000 reach into autumn 2026.
LIBRARY_BEGINS = 1_640_995_200
SPACING = 60
#: Seconds from the creation of a medium of the old library to its last modification.
LIBRARY_LIFE = 300


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


class Timeline:
    """All media of one seed in the order of their creation. Moments are unix seconds."""

    def __init__(self, *, seed: int, existing: int) -> None:
        self.existing = existing
        self.total = existing
        self._seed = seed
        self._uploads: list[Upload] = []
        #: When the last of all lives up to each upload is over.
        self._ends: list[float] = []

    def add(self, count: int, *, now: float, life_seconds: float, damaged: bool = False) -> Upload:
        """Announce `count` uploads that begin their lives at `now`."""
        upload = Upload(self.total, count, now, life_seconds, damaged)
        self._ends.append(max(now + life_seconds, self._ends[-1] if self._ends else 0))
        self._uploads.append(upload)
        self.total += count
        return upload

    def upload(self, index: int) -> Upload | None:
        """The request that brought this medium; None where it was always there."""
        if index < self.existing:
            return None
        return self._uploads[bisect_right(self._uploads, index, key=lambda upload: upload.first) - 1]

    def created_at(self, index: int) -> float:
        upload = self.upload(index)
        if upload is not None:
            return upload.started_at
        return LIBRARY_BEGINS + index * SPACING + roll(SPACING, self._seed, index, "second")

    def announced(self, moment: float) -> int:
        """How many media there are by `moment`: those are the indices below."""
        return self._first(bisect_right(self._uploads, moment, key=lambda upload: upload.started_at))

    def settled(self, moment: float) -> int:
        """The indices below this one change no more by themselves."""
        return self._first(bisect_right(self._ends, moment))

    def existing_since(self, second: int) -> int:
        """The first index of the old library that was created in `second` or later."""
        index = (second - LIBRARY_BEGINS) // SPACING
        if not 0 <= index < self.existing:
            return 0 if index < 0 else self.existing
        return index if self.created_at(index) >= second else index + 1

    def uploads_since(self, second: int) -> int:
        """The first index of the uploads that was announced in `second` or later."""
        return self._first(bisect_left(self._uploads, second, key=lambda upload: int(upload.started_at)))

    def _first(self, number: int) -> int:
        return self._uploads[number].first if number < len(self._uploads) else self.total
