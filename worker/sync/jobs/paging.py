"""A walk through the library's listing, page by page, that goes on wherever it was interrupted.

Rows come in the order of a time. By page numbers only the first 5,000 rows of a search can be reached, so the next search begins at
the time of the last row. This needs hardly more calls than there are pages, where halving windows until they fit asks for pages
that it throws away; that is left for listings that do not keep to the order they were asked for. Rows may come twice, and whoever
walks knows them by their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from worker.core.listing import MAX_PAGED_ROWS, PAGE_ROWS, ListedMedia, Page

#: The times between which a library can lie.
BEGIN, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)

#: A search index is behind by an unknown time (vod-protocol 6.1): what is younger is listed last.
INDEXED = timedelta(minutes=15)

#: A window is begun again so often because its token was refused.
_RESTARTS = 5


class PagingError(Exception):
    """The listing cannot be walked; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a walk is. `low` and `high` are the window, `later` those that follow it."""

    low: datetime
    high: datetime
    page: int = 1
    #: What the pages before gave as the window's total, at least.
    total: int | None = None
    #: The time of the last row so far, and whether all rows so far came in order.
    reached: datetime = BEGIN
    ordered: bool = True
    #: The window is walked by tokens from its first page on, because of a second with more rows than page numbers can reach.
    scrolling: bool = False
    token: str | None = None
    restarts: int = 0
    later: tuple[tuple[datetime, datetime], ...] = ()
    over: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "low": self.low.isoformat(),
            "high": self.high.isoformat(),
            "page": self.page,
            "total": self.total,
            "reached": self.reached.isoformat(),
            "ordered": self.ordered,
            "scrolling": self.scrolling,
            "token": self.token,
            "restarts": self.restarts,
            "later": [[low.isoformat(), high.isoformat()] for low, high in self.later],
            "over": self.over,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Cursor:
        time = datetime.fromisoformat
        times = {name: time(stored[name]) for name in ("low", "high", "reached")}
        later = tuple((time(low), time(high)) for low, high in stored["later"])
        return cls(**stored | times | {"later": later})


@dataclass(frozen=True, slots=True)
class PageResult:
    """The rows of a page, some of which may have come before, and the position after it."""

    rows: tuple[ListedMedia, ...]
    position: Cursor


def begin(since: datetime | None, until: datetime | None, *, now: datetime) -> Cursor:
    """The start of a walk through everything between two times, both included.

    What comes after `now`, or may not be listed yet, is a window of its own: new media at the end would hide from the count that
    others were deleted.
    """
    low, high, cut = _second(since or BEGIN), _second(until or END), _second(now - INDEXED)
    if low < cut < high:
        return Cursor(low=low, high=cut, later=((cut, high),))
    return Cursor(low=low, high=high)


def next_cursor(position: Cursor, page: Page, *, by_modification: bool = False) -> PageResult:
    """Where the walk goes after `page`, which is what VOD listed at `position`. Raises WalkRefused."""
    times = [_second(time) for row in page.rows if (time := row.modified_at if by_modification else row.created_at)]
    in_order = len(times) == len(page.rows) and times == sorted([position.reached, *times])[1:]
    ordered = position.ordered and in_order
    if not ordered and position.page == 1 and (page.total or 0) >= MAX_PAGED_ROWS and position.high > position.low:
        return PageResult(page.rows, _halved(position))
    totals = [total for total in (position.total, page.total) if total is not None]
    total = min(totals, default=None)
    if position.total is not None and total is not None and total < position.total:
        # Somebody deleted media while we read: what stood behind them moved forward by as many rows, past us.
        return PageResult(page.rows, _stepped_back(position, total))
    if not page.length or (page.length < PAGE_ROWS and (page.total is None or page.total <= position.page * PAGE_ROWS)):
        if not position.later:
            return PageResult(page.rows, replace(position, over=True))
        (low, high), *rest = position.later
        return PageResult(page.rows, Cursor(low, high, later=tuple(rest)))
    reached = times[-1] if ordered and times else position.reached
    after = replace(position, page=position.page + 1, total=total, reached=reached, ordered=ordered)
    if position.scrolling:
        after = replace(after, token=page.token)
    if after.page * PAGE_ROWS <= MAX_PAGED_ROWS:
        return PageResult(page.rows, after)
    if ordered and reached > position.low:
        after = Cursor(reached, position.high, later=position.later)
    elif not ordered and position.high > position.low:
        after = _halved(position)
    elif not page.token:
        sentence = (
            f"more than {MAX_PAGED_ROWS} media carry the time {position.low:%Y-%m-%dT%H:%M:%SZ}, and VOD gives no ScrollToken"
        )
        raise PagingError(sentence)
    elif not position.scrolling:
        after = Cursor(position.low, position.high, scrolling=True, later=position.later)
    return PageResult(page.rows, after)


def restart(position: Cursor) -> Cursor:
    """The window once more from its first page, because VOD does not take the token any more. Raises WalkRefused."""
    if position.restarts >= _RESTARTS:
        raise PagingError(f"VOD refused the ScrollToken {_RESTARTS} times in the same search")
    return Cursor(position.low, position.high, scrolling=True, restarts=position.restarts + 1, later=position.later)


def match(position: Cursor, *, by_modification: bool = False, statuses: Sequence[str] = ()) -> tuple[str, str]:
    """The filter and the order of the search at `position`."""
    name = "ModificationTime" if by_modification else "CreationTime"
    parts = [f"{name} = ['{position.low:%Y-%m-%dT%H:%M:%SZ}','{position.high:%Y-%m-%dT%H:%M:%SZ}']"]
    if statuses:
        parts.append("Status in (" + ",".join(f"'{status}'" for status in statuses) + ")")
    return " and ".join(parts), f"{name}:Asc"


def _stepped_back(position: Cursor, total: int) -> Cursor:
    if position.ordered and position.reached > position.low:
        # Whatever is deleted before that second moves nothing that we have not seen.
        return Cursor(position.reached, position.high, later=position.later)
    back = ceil(((position.total or total) - total) / PAGE_ROWS)
    page = 1 if position.scrolling else max(1, position.page - back)
    return replace(position, page=page, token=None, total=total, reached=BEGIN)


def _halved(position: Cursor) -> Cursor:
    middle = _second(position.low + (position.high - position.low) / 2)
    # A second that two windows share cannot fall between them; a window of two seconds is cut between them.
    upper = middle if middle > position.low else position.high
    return Cursor(position.low, middle, later=((upper, position.high), *position.later))


def _second(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(microsecond=0)
