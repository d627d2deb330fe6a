"""Which media answer conditions that never change their answer: kept chunk by chunk, four bytes for each that does.

Nothing is worked out before somebody asks, and then no more than the chunks that are asked for.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

from worker.emulator.api.match import Condition
from worker.emulator.api.search_fields import FactCache
from worker.emulator.library.media_factory import videos_among
from worker.emulator.server.cooperative_yield import CooperativeYield

CHUNK = 512

#: Selections with conditions of their own that are kept: each grows up to 4 MB with a library of a million.
_KEPT = 6

Indices: TypeAlias = "array[int]"


class Selections:
    """The selections of one library."""

    def __init__(self, album: FactCache) -> None:
        self._album = album
        self._kinds: dict[int, tuple[Indices, Indices]] = {}
        self._kept: OrderedDict[tuple[bool, tuple[Condition, ...]], dict[int, Indices]] = OrderedDict()

    async def pieces(
        self, span: range, *, video: bool, conditions: tuple[Condition, ...], settled: int, seen_at: float
    ) -> list[Indices]:
        """The indices in `span` that are videos, or audios, and meet `conditions` untouched; in order, none of the pieces empty.

        A chunk is kept once its media change no more by themselves: those below `settled`.
        """
        turns = CooperativeYield()
        kept = self._chunks(video, conditions) if conditions else {}
        found = []
        for chunk, part in _parts(span):
            whole = len(part) == CHUNK and part.stop <= settled
            piece = kept.get(chunk) if whole else None
            if piece is None:
                await turns()
                piece = self._kind(chunk, video)
                if len(part) < CHUNK:
                    piece = array("I", [index for index in piece if index in part])
                if conditions:
                    piece = await self._meeting(piece, conditions, seen_at, turns)
                if whole and conditions:
                    kept[chunk] = piece
            if piece:
                found.append(piece)
        return found

    async def _meeting(
        self, indices: Indices, conditions: tuple[Condition, ...], seen_at: float, turns: CooperativeYield
    ) -> Indices:
        met = array("I")
        for index in indices:
            await turns()
            facts = self._album.untouched(index, seen_at)
            if all(condition.holds(facts) for condition in conditions):
                met.append(index)
        return met

    def _chunks(self, video: bool, conditions: tuple[Condition, ...]) -> dict[int, Indices]:
        chunks = self._kept.setdefault((video, conditions), {})
        self._kept.move_to_end((video, conditions))
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return chunks

    def _kind(self, chunk: int, video: bool) -> Indices:
        """All videos of a chunk, or all audios. They are told apart once."""
        if chunk not in self._kinds:
            indices = range(chunk * CHUNK, (chunk + 1) * CHUNK)
            videos = array("I", videos_among(self._album.library.seed, indices))
            audios = array("I", sorted(set(indices).difference(videos)))
            self._kinds[chunk] = (videos, audios)
        return self._kinds[chunk][0 if video else 1]


def _parts(span: range) -> Iterator[tuple[int, range]]:
    for chunk in range(span.start // CHUNK, -(-span.stop // CHUNK)):
        yield chunk, range(max(span.start, chunk * CHUNK), min(span.stop, (chunk + 1) * CHUNK))
