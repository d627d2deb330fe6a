"""Find the assets of a search, in the requested order.

Indices are in the order of creation, so most of a result is an index range. Only assets that were changed manually, or that have
not reached their final state, are examined one by one. They are then merged into the range.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import dataclass
from itertools import accumulate

from worker.emulator.api.cooperative_yield import CooperativeYield
from worker.emulator.api.faults import FaultInjector
from worker.emulator.api.match import ID_FIELDS, Condition, RangeCondition, ValueCondition
from worker.emulator.api.search_index import SearchIndex
from worker.emulator.api.selection import Indices, Selections
from worker.emulator.library.library import Library
from worker.emulator.library.timeline import LIBRARY_LIFE

#: Cached results, so that all pages of a listing are cut from one result. Each has up to 10 KB, and the assets that were changed.
_MAX_CACHED_RESULTS = 8


@dataclass(frozen=True, slots=True)
class Query:
    """The conditions and the order of one listing, without the page."""

    video: bool
    conditions: tuple[Condition, ...] = ()
    sort: str = "CreationTime"
    descending: bool = True


class SearchResult:
    """The indices that a query finds, in ascending order of its sort key: long pieces, and single indices merged into them."""

    def __init__(self, pieces: list[Indices], singles: list[int], boundary: Callable[[int], int], seen_at: float) -> None:
        """`singles` are in order. `boundary` returns the index of the pieces before which a single index belongs."""
        self.seen_at = seen_at
        self._pieces = pieces
        self._piece_first_indices = [piece[0] for piece in pieces]
        self._piece_rows = list(accumulate(map(len, pieces), initial=0))
        self._singles = singles
        self._single_rows = [number + self._count_below(boundary(index)) for number, index in enumerate(singles)]
        self.total = self._piece_rows[-1] + len(singles)

    def rows(self, start: int, stop: int, *, descending: bool) -> list[int]:
        """Return the indices in rows `start` to `stop` - 1, fewer at the end of the result."""
        rows = range(min(start, self.total), min(stop, self.total))
        return [self._index_at(self.total - 1 - row if descending else row) for row in rows]

    def _index_at(self, row: int) -> int:
        number = bisect_left(self._single_rows, row)
        if number < len(self._single_rows) and self._single_rows[number] == row:
            return self._singles[number]
        row -= number
        piece = bisect_right(self._piece_rows, row) - 1
        return self._pieces[piece][row - self._piece_rows[piece]]

    def _count_below(self, index: int) -> int:
        """Return how many indices of the pieces are smaller than `index`."""
        piece = bisect_right(self._piece_first_indices, index) - 1
        return 0 if piece < 0 else self._piece_rows[piece] + bisect_left(self._pieces[piece], index)


class Search:
    """Searches one library. Times are unix seconds."""

    def __init__(self, library: Library, injector: FaultInjector) -> None:
        self.index = SearchIndex(library)
        self._library = library
        self._timeline = library.timeline
        self._injector = injector
        self._selections = Selections(self.index)
        #: By query: what the result depends on, and the result. The least recently used is first.
        self._results: OrderedDict[Query, tuple[object, SearchResult]] = OrderedDict()

    async def find(self, query: Query, now: float) -> SearchResult:
        """Return what `query` finds at `now`, in the state that the search index has then."""
        faults = self._injector.faults
        lag = max(faults.lag_seconds, faults.search_lag_seconds)
        hidden = frozenset(self._hidden_indices(now))
        timeline = self._timeline
        # The result depends on the time as long as an upload is not finished or the index lags behind.
        is_stable = not lag and timeline.finished_count(now) == timeline.announced_count(now) == timeline.total
        version = (self._library.version, hidden)
        cached = self._results.get(query)
        if is_stable and cached is not None and cached[0] == version:
            self._results.move_to_end(query)
            return cached[1]
        result = await self._find(query, now - lag, hidden)
        if is_stable:
            self._results[query] = (version, result)
            self._results.move_to_end(query)
            if len(self._results) > _MAX_CACHED_RESULTS:
                self._results.popitem(last=False)
        return result

    def _hidden_indices(self, now: float) -> set[int]:
        faults = self._injector.faults
        hidden = (media_id for media_id in faults.gone.union(faults.late) if self._injector.hides(media_id, now))
        return {index for index in map(self._library.index, hidden) if index is not None}

    async def _find(self, query: Query, seen_at: float, hidden: Set[int]) -> SearchResult:
        created = _time_range(query.conditions, "CreationTime")
        modified = _time_range(query.conditions, "ModificationTime")
        existing, uploads = self._existing_in(created), self._uploads_in(created, seen_at)
        named = self._named_indices(query.conditions)
        if named is not None:
            pieces, candidates = [], named
        else:
            existing_modified = _intersection(existing, self._existing_in(modified, LIBRARY_LIFE))
            pieces = await self._select(query, existing_modified, ("CreationTime", "ModificationTime"), seen_at)
            new_pieces = await self._select(query, uploads, ("CreationTime",), seen_at)
            # A manual change matters if anything but the creation time is compared.
            compares_state = query.sort == "ModificationTime" or any(
                not _is_range_of(condition, "CreationTime") for condition in query.conditions
            )
            changed = {index for index, change in self._library.changes() if compares_state or change.is_deleted}
            candidates = {index for index in changed | hidden if index in existing or index in uploads}
            if query.sort == "CreationTime":
                pieces += new_pieces
            else:
                candidates.update(*new_pieces)
            pieces = _remove(pieces, sorted(candidates))
        modification_times = await self._matching(query, candidates - hidden, seen_at)
        if query.sort == "CreationTime":
            return SearchResult(pieces, sorted(modification_times), lambda index: index, seen_at)
        return SearchResult(
            pieces,
            sorted(modification_times, key=lambda index: (modification_times[index], index)),
            lambda index: self._timeline.first_existing_since(modification_times[index] - LIBRARY_LIFE),
            seen_at,
        )

    async def _select(self, query: Query, span: range, covered: Collection[str], seen_at: float) -> list[Indices]:
        """Return the matching indices of `span`, which already meets all conditions on the times in `covered`."""
        conditions = tuple(
            condition for condition in query.conditions if not any(_is_range_of(condition, name) for name in covered)
        )
        return await self._selections.select(
            span,
            video=query.video,
            conditions=conditions,
            finished_count=self._timeline.finished_count(seen_at),
            seen_at=seen_at,
        )

    async def _matching(self, query: Query, indices: Collection[int], seen_at: float) -> dict[int, int]:
        """Return those of `indices` that the query finds, each with its modification time."""
        announced_count = self._timeline.announced_count(seen_at)
        yield_to_others = CooperativeYield()
        matching = {}
        for index in indices:
            await yield_to_others()
            asset = self.index.asset(index, seen_at)
            if index >= announced_count or asset.is_deleted or asset.is_video != query.video:
                continue
            if all(condition.matches(asset) for condition in query.conditions):
                matching[index] = asset.modified_at
        return matching

    def _named_indices(self, conditions: Collection[Condition]) -> set[int] | None:
        """Return the only indices that can match because a condition lists ids, or None if no condition does."""
        for condition in conditions:
            if isinstance(condition, ValueCondition) and condition.name in ID_FIELDS:
                return {index for index in map(self._library.index, condition.values) if index is not None}
        return None

    def _existing_in(self, time_range: TimeRange, after: int = 0) -> range:
        """Return the existing assets whose creation time plus `after` seconds is within `time_range`."""
        timeline = self._timeline
        first = 0 if time_range.first is None else timeline.first_existing_since(time_range.first - after)
        stop = timeline.existing if time_range.last is None else timeline.first_existing_since(time_range.last + 1 - after)
        return range(first, max(first, stop))

    def _uploads_in(self, time_range: TimeRange, seen_at: float) -> range:
        """Return the uploads that were announced within `time_range` and not after `seen_at`."""
        timeline = self._timeline
        first = timeline.existing if time_range.first is None else timeline.first_upload_since(time_range.first)
        stop = timeline.total if time_range.last is None else timeline.first_upload_since(time_range.last + 1)
        return range(first, max(first, min(stop, timeline.announced_count(seen_at))))


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The first and the last second, both included; None sets no limit."""

    first: int | None = None
    last: int | None = None


def _is_range_of(condition: Condition, name: str) -> bool:
    return isinstance(condition, RangeCondition) and condition.name == name


def _time_range(conditions: Iterable[Condition], name: str) -> TimeRange:
    """Return the range in which a time meets all conditions on it."""
    lows, highs = [], []
    for condition in conditions:
        if isinstance(condition, RangeCondition) and condition.name == name:
            excluded = 0 if condition.is_closed else 1  # seconds at each bound
            lows += [] if condition.low is None else [int(condition.low) + excluded]
            highs += [] if condition.high is None else [int(condition.high) - excluded]
    return TimeRange(max(lows, default=None), min(highs, default=None))


def _intersection(left: range, right: range) -> range:
    first = max(left.start, right.start)
    return range(first, max(first, min(left.stop, right.stop)))


def _remove(pieces: list[Indices], indices: list[int]) -> list[Indices]:
    """Return the pieces without `indices`, which are sorted, and without pieces that become empty."""
    remaining = []
    for piece in pieces:
        inside = indices[bisect_left(indices, piece[0]) : bisect_right(indices, piece[-1])]
        rest = array("I", sorted(set(piece).difference(inside))) if inside else piece
        if rest:
            remaining.append(rest)
    return remaining
