"""Find the unchanged assets that meet the conditions of a search, and cache the result in chunks of indices.

A cached chunk needs four bytes for each asset in it. A chunk is computed when a search first needs it.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

from worker.emulator.api.cooperative_yield import CooperativeYield
from worker.emulator.api.match import Condition
from worker.emulator.api.search_index import SearchIndex
from worker.emulator.library.media_factory import videos_among

CHUNK_SIZE = 512  # indices

#: Cached selections that have conditions. Each grows up to 4 MB with a library of a million assets.
_MAX_CACHED_SELECTIONS = 6

Indices: TypeAlias = "array[int]"


class Selections:
    """The selections of one library."""

    def __init__(self, search_index: SearchIndex) -> None:
        self._search_index = search_index
        #: By chunk: the videos and the audios in it.
        self._kinds: dict[int, tuple[Indices, Indices]] = {}
        #: By kind and conditions, then by chunk; the least recently used is first.
        self._cache: OrderedDict[tuple[bool, tuple[Condition, ...]], dict[int, Indices]] = OrderedDict()

    async def select(
        self, span: range, *, video: bool, conditions: tuple[Condition, ...], finished_count: int, seen_at: float
    ) -> list[Indices]:
        """Return the indices in `span` that are videos (or audios) and meet `conditions`, in pieces, of which none is empty.

        Manual changes are ignored. Chunks are cached if their assets no longer change by themselves: those below `finished_count`.
        """
        yield_to_others = CooperativeYield()
        cached_chunks = self._chunks(video, conditions) if conditions else {}
        pieces = []
        for chunk, part in _parts(span):
            is_cacheable = len(part) == CHUNK_SIZE and part.stop <= finished_count
            piece = cached_chunks.get(chunk) if is_cacheable else None
            if piece is None:
                await yield_to_others()
                piece = self._of_kind(chunk, video)
                if len(part) < CHUNK_SIZE:
                    piece = array("I", [index for index in piece if index in part])
                if conditions:
                    piece = await self._filter(piece, conditions, seen_at, yield_to_others)
                if is_cacheable and conditions:
                    cached_chunks[chunk] = piece
            if piece:
                pieces.append(piece)
        return pieces

    async def _filter(
        self, indices: Indices, conditions: tuple[Condition, ...], seen_at: float, yield_to_others: CooperativeYield
    ) -> Indices:
        matching = array("I")
        for index in indices:
            await yield_to_others()
            asset = self._search_index.unchanged_asset(index, seen_at)
            if all(condition.matches(asset) for condition in conditions):
                matching.append(index)
        return matching

    def _chunks(self, video: bool, conditions: tuple[Condition, ...]) -> dict[int, Indices]:
        chunks = self._cache.setdefault((video, conditions), {})
        self._cache.move_to_end((video, conditions))
        while len(self._cache) > _MAX_CACHED_SELECTIONS:
            self._cache.popitem(last=False)
        return chunks

    def _of_kind(self, chunk: int, video: bool) -> Indices:
        """Return all videos of a chunk, or all audios."""
        if chunk not in self._kinds:
            indices = range(chunk * CHUNK_SIZE, (chunk + 1) * CHUNK_SIZE)
            videos = array("I", videos_among(self._search_index.library.seed, indices))
            audios = array("I", sorted(set(indices).difference(videos)))
            self._kinds[chunk] = (videos, audios)
        return self._kinds[chunk][0 if video else 1]


def _parts(span: range) -> Iterator[tuple[int, range]]:
    """Yield each chunk that `span` touches, and the part of `span` inside it."""
    for chunk in range(span.start // CHUNK_SIZE, -(-span.stop // CHUNK_SIZE)):
        yield chunk, range(max(span.start, chunk * CHUNK_SIZE), min(span.stop, (chunk + 1) * CHUNK_SIZE))
