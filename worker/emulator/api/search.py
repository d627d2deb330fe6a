"""Which media a search finds, and in which order.

Most of an answer is a span of indices, because time order is index order. What somebody laid hands on, and what is still in
motion, is looked at one by one and merged into it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import dataclass
from itertools import accumulate

from worker.emulator.api.faults import FaultInjector
from worker.emulator.api.match import IDS, Condition, Named, Within
from worker.emulator.api.search_fields import FactCache
from worker.emulator.api.selection import Indices, Selections
from worker.emulator.library.library import Library
from worker.emulator.library.timeline import LIBRARY_LIFE
from worker.emulator.server.cooperative_yield import CooperativeYield

#: Answers at hand, so that the pages of one listing are cut from one answer: up to 10 KB each, and the media that were changed.
_AT_HAND = 8


@dataclass(frozen=True, slots=True)
class Query:
    """One listing: what it holds and how it is sorted; the pages do not matter."""

    video: bool
    conditions: tuple[Condition, ...] = ()
    sort: str = "CreationTime"
    descending: bool = True


class Found:
    """The indices that a query finds, in ascending order of its sort key: long pieces, and single ones merged into them."""

    def __init__(self, pieces: list[Indices], singles: list[int], boundary: Callable[[int], int], seen_at: float) -> None:
        """`singles` are sorted; `boundary` tells before which index of the pieces each of them belongs."""
        self.seen_at = seen_at
        self._pieces = pieces
        self._firsts = [piece[0] for piece in pieces]
        self._starts = list(accumulate(map(len, pieces), initial=0))
        self._singles = singles
        #: The row of each of the singles.
        self._places = [number + self._rank(boundary(index)) for number, index in enumerate(singles)]
        self.total = self._starts[-1] + len(singles)

    def rows(self, start: int, stop: int, *, descending: bool) -> list[int]:
        """The indices in rows `start` to `stop` - 1, as far as there are any."""
        wanted = range(min(start, self.total), min(stop, self.total))
        return [self._row(self.total - 1 - row if descending else row) for row in wanted]

    def _row(self, row: int) -> int:
        number = bisect_left(self._places, row)
        if number < len(self._places) and self._places[number] == row:
            return self._singles[number]
        row -= number
        piece = bisect_right(self._starts, row) - 1
        return self._pieces[piece][row - self._starts[piece]]

    def _rank(self, index: int) -> int:
        """How many of the pieces' indices are smaller."""
        piece = bisect_right(self._firsts, index) - 1
        return 0 if piece < 0 else self._starts[piece] + bisect_left(self._pieces[piece], index)


class Search:
    """Answers queries about one library. Moments are unix seconds."""

    def __init__(self, library: Library, mischief: FaultInjector) -> None:
        self.album = FactCache(library)
        self._library = library
        self._timeline = library.timeline
        self._mischief = mischief
        self._selections = Selections(self.album)
        self._answers: OrderedDict[Query, tuple[object, Found]] = OrderedDict()

    async def find(self, query: Query, now: float) -> Found:
        """What `query` finds at `now`, as far as the search index knows of it by then."""
        faults = self._mischief.faults
        lag = max(faults.lag_seconds, faults.search_lag_seconds)
        hidden = frozenset(self._hidden(now))
        at_rest = not lag and self._timeline.settled(now) == self._timeline.announced(now) == self._timeline.total
        stamp = (self._library.version, hidden)
        kept = self._answers.get(query)
        if at_rest and kept is not None and kept[0] == stamp:
            self._answers.move_to_end(query)
            return kept[1]
        found = await self._find(query, now - lag, hidden)
        if at_rest:
            self._answers[query] = (stamp, found)
            self._answers.move_to_end(query)
            if len(self._answers) > _AT_HAND:
                self._answers.popitem(last=False)
        return found

    def _hidden(self, now: float) -> set[int]:
        faults = self._mischief.faults
        hidden = (media_id for media_id in faults.gone.union(faults.late) if self._mischief.hides(media_id, now))
        return {index for index in map(self._library.index, hidden) if index is not None}

    async def _find(self, query: Query, seen_at: float, hidden: Set[int]) -> Found:
        old = self._old(_span(query.conditions, "CreationTime"))
        new = self._new(_span(query.conditions, "CreationTime"), seen_at)
        modified = _span(query.conditions, "ModificationTime")
        by_state = query.sort == "ModificationTime" or any(not _is_span(each, "CreationTime") for each in query.conditions)
        named = self._named(query.conditions)
        if named is not None:
            pieces, loose = [], named
        else:
            old_ones = _common(old, self._old(modified, LIBRARY_LIFE))
            pieces = await self._select(query, old_ones, ("CreationTime", "ModificationTime"), seen_at)
            newer = await self._select(query, new, ("CreationTime",), seen_at)
            loose = {index for index, change in self._library.changed() if by_state or change.deleted} | hidden
            loose = {index for index in loose if index in old or index in new}
            if query.sort == "CreationTime":
                pieces += newer
            else:
                loose.update(*newer)
            pieces = _without(pieces, sorted(loose))
        singles = await self._matching(query, loose - hidden, seen_at)
        if query.sort == "CreationTime":
            return Found(pieces, sorted(singles), lambda index: index, seen_at)
        return Found(
            pieces,
            sorted(singles, key=lambda index: (singles[index], index)),
            lambda index: self._timeline.existing_since(singles[index] - LIBRARY_LIFE),
            seen_at,
        )

    async def _select(self, query: Query, span: range, spanned: Collection[str], seen_at: float) -> list[Indices]:
        """The pieces of `span`, which stands for all conditions on the times in `spanned`."""
        rest = tuple(each for each in query.conditions if not any(_is_span(each, name) for name in spanned))
        settled = self._timeline.settled(seen_at)
        return await self._selections.pieces(span, video=query.video, conditions=rest, settled=settled, seen_at=seen_at)

    async def _matching(self, query: Query, indices: Collection[int], seen_at: float) -> dict[int, int]:
        """Those of `indices` that the query finds, each with its modification time."""
        announced = self._timeline.announced(seen_at)
        turns = CooperativeYield()
        met = {}
        for index in indices:
            await turns()
            facts = self.album.seen(index, seen_at)
            if index >= announced or facts.deleted or facts.video != query.video:
                continue
            if all(condition.holds(facts) for condition in query.conditions):
                met[index] = facts.modified_at
        return met

    def _named(self, conditions: Collection[Condition]) -> set[int] | None:
        """The only indices that can be found, where a condition names ids; None where none does."""
        for condition in conditions:
            if isinstance(condition, Named) and condition.name in IDS:
                return {index for index in map(self._library.index, condition.values) if index is not None}
        return None

    def _old(self, span: Span, after: int = 0) -> range:
        """The existing media for which something happened within `span`, `after` seconds after their creation."""
        timeline = self._timeline
        first = 0 if span.low is None else timeline.existing_since(span.low - after)
        last = timeline.existing if span.high is None else timeline.existing_since(span.high + 1 - after)
        return range(first, max(first, last))

    def _new(self, span: Span, seen_at: float) -> range:
        """The uploads that were announced within `span`, and by `seen_at`."""
        timeline = self._timeline
        first = timeline.existing if span.low is None else timeline.uploads_since(span.low)
        last = timeline.total if span.high is None else timeline.uploads_since(span.high + 1)
        return range(first, max(first, min(last, timeline.announced(seen_at))))


@dataclass(frozen=True, slots=True)
class Span:
    """The first and the last second; None is without end."""

    low: int | None = None
    high: int | None = None


def _is_span(condition: Condition, name: str) -> bool:
    return isinstance(condition, Within) and condition.name == name


def _span(conditions: Iterable[Condition], name: str) -> Span:
    """What the conditions on one time leave of it, all together."""
    lows, highs = [], []
    for each in conditions:
        if isinstance(each, Within) and each.name == name:
            beyond = 0 if each.closed else 1
            lows += [] if each.low is None else [int(each.low) + beyond]
            highs += [] if each.high is None else [int(each.high) - beyond]
    return Span(max(lows, default=None), min(highs, default=None))


def _common(one: range, other: range) -> range:
    first = max(one.start, other.start)
    return range(first, max(first, min(one.stop, other.stop)))


def _without(pieces: list[Indices], indices: list[int]) -> list[Indices]:
    """The pieces without some indices, which are sorted; none of them empty."""
    left = []
    for piece in pieces:
        within = indices[bisect_left(indices, piece[0]) : bisect_right(indices, piece[-1])]
        rest = array("I", sorted(set(piece).difference(within))) if within else piece
        if rest:
            left.append(rest)
    return left
