"""Page through a library listing that may change meanwhile; the cursor can be stored between two pages.

Rows come in the order of a time. Page numbers reach only the first 5,000 rows of a search (vod-protocol 6.1), so the next search
begins at the time of the last row. This needs hardly more calls than there are pages. Halving the window until it fits would fetch
pages and discard them; that is done only for listings that are not in the requested order. A row may come twice: the caller keeps
the ids of those that it has handled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

import msgspec
from msgspec.structs import replace

from worker.core.listing import MAX_PAGED_ROWS, PAGE_ROWS, ListedMedia, Page

#: All media of a library were created between these times.
BEGIN = datetime(2000, 1, 1, tzinfo=UTC)
END = datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)

#: VOD adds media to its search index after an unknown delay (vod-protocol 6.1). Media younger than this are listed last.
INDEX_DELAY = timedelta(minutes=15)

#: How often a window is listed again from its first page because VOD refused the token.
_MAX_RESTARTS = 5


class PagingError(Exception):
    """The listing cannot be continued. The message contains the cause and the next step."""


class Cursor(msgspec.Struct, frozen=True):
    """The next page of a listing: a window of time from `low` to `high`, both included, and a page in it.

    Part of the checkpoint of a job, so field names and values are stored as JSON.
    """

    low: datetime
    high: datetime
    page: int = 1
    #: The smallest total of this window that VOD has reported so far.
    total: int | None = None
    #: The time of the last row so far, and whether all rows so far came in order.
    reached: datetime = BEGIN
    ordered: bool = True
    #: The window is listed by tokens from its first page on, because one second has more rows than page numbers can reach.
    scrolling: bool = False
    token: str | None = None
    restarts: int = 0
    #: The windows after this one.
    later: tuple[tuple[datetime, datetime], ...] = ()
    #: The listing is complete.
    over: bool = False


@dataclass(frozen=True, slots=True)
class PageResult:
    """The rows of one page, of which some may have come before, and the cursor of the next page."""

    rows: tuple[ListedMedia, ...]
    cursor: Cursor
    #: How many fields and rows could not be read.
    unreadable: int = 0


def time_range(since: datetime | None, until: datetime | None) -> Cursor:
    """Return one window between two times, both included. None means all media on that side."""
    return Cursor(low=_second(since or BEGIN), high=_second(until or END))


def begin(since: datetime | None, until: datetime | None, *, now: datetime) -> Cursor:
    """Return the cursor of the first page of all media between two times, both included.

    Media younger than the index delay get a window of their own, listed last: new media at the end of a window would hide from its
    total that others were deleted.
    """
    window, cut = time_range(since, until), _second(now - INDEX_DELAY)
    if window.low < cut < window.high:
        return Cursor(low=window.low, high=cut, later=((cut, window.high),))
    return window


def next_cursor(cursor: Cursor, page: Page, *, by_modification: bool = False) -> PageResult:
    """Return the rows of `page`, which VOD listed at `cursor`, and the cursor of the page after it. Raises PagingError."""
    return PageResult(page.rows, _next(cursor, page, by_modification=by_modification), sum(page.unreadable.values()))


def restart(cursor: Cursor) -> Cursor:
    """Return the first page of the same window, because VOD refused the token. Raises PagingError."""
    if cursor.restarts >= _MAX_RESTARTS:
        raise PagingError(f"VOD refused the ScrollToken {_MAX_RESTARTS} times in the same search; start the job again later")
    return Cursor(cursor.low, cursor.high, scrolling=True, restarts=cursor.restarts + 1, later=cursor.later)


def match(cursor: Cursor, *, by_modification: bool = False, statuses: Sequence[str] = ()) -> tuple[str, str]:
    """Return the `Match` and the `SortBy` of the search at `cursor` (vod-protocol 6.1)."""
    name = "ModificationTime" if by_modification else "CreationTime"
    parts = [f"{name} = ['{cursor.low:%Y-%m-%dT%H:%M:%SZ}','{cursor.high:%Y-%m-%dT%H:%M:%SZ}']"]
    if statuses:
        parts.append("Status in (" + ",".join(f"'{status}'" for status in statuses) + ")")
    return " and ".join(parts), f"{name}:Asc"


def _next(cursor: Cursor, page: Page, *, by_modification: bool) -> Cursor:
    times = [_second(time) for row in page.rows if (time := row.modified_at if by_modification else row.created_at)]
    has_all_times = len(times) == len(page.rows)
    ordered = cursor.ordered and has_all_times and times == sorted([cursor.reached, *times])[1:]
    is_too_long = (page.total or 0) >= MAX_PAGED_ROWS
    if not ordered and cursor.page == 1 and is_too_long and cursor.high > cursor.low:
        return _halved(cursor)
    if page.total is not None and cursor.total is not None and page.total < cursor.total:
        # Media were deleted since the last page: the rows after them moved forward, over the border of the pages that we read.
        return _stepped_back(cursor, page.total)
    if _is_last(cursor, page):
        return _next_window(cursor)
    return _next_page(cursor, page, reached=times[-1] if ordered and times else cursor.reached, ordered=ordered)


def _is_last(cursor: Cursor, page: Page) -> bool:
    """Return whether `page` is the last one of its window."""
    if not page.length:
        return True
    return page.length < PAGE_ROWS and (page.total is None or page.total <= cursor.page * PAGE_ROWS)


def _next_window(cursor: Cursor) -> Cursor:
    if not cursor.later:
        return replace(cursor, over=True)
    (low, high), *later = cursor.later
    return Cursor(low, high, later=tuple(later))


def _next_page(cursor: Cursor, page: Page, *, reached: datetime, ordered: bool) -> Cursor:
    following = replace(
        cursor,
        page=cursor.page + 1,
        total=page.total if cursor.total is None else cursor.total,
        reached=reached,
        ordered=ordered,
        token=page.token if cursor.scrolling else cursor.token,
    )
    if following.page * PAGE_ROWS <= MAX_PAGED_ROWS:
        return following
    if ordered and reached > cursor.low:
        return Cursor(reached, cursor.high, later=cursor.later)
    if not ordered and cursor.high > cursor.low:
        return _halved(following)
    if not page.token:
        raise PagingError(
            f"more than {MAX_PAGED_ROWS} media have the time {cursor.low:%Y-%m-%dT%H:%M:%SZ}, and VOD returned no ScrollToken "
            "to list the rest; fetch these media by their ids: vodsync sync ID"
        )
    return following if cursor.scrolling else Cursor(cursor.low, cursor.high, scrolling=True, later=cursor.later)


def _stepped_back(cursor: Cursor, total: int) -> Cursor:
    if cursor.ordered and cursor.reached > cursor.low:
        # Deletions before that second move only rows that we have read.
        return Cursor(cursor.reached, cursor.high, later=cursor.later)
    back = ceil(((cursor.total or total) - total) / PAGE_ROWS)
    page = 1 if cursor.scrolling else max(1, cursor.page - back)
    return replace(cursor, page=page, token=None, total=total, reached=BEGIN)


def _halved(cursor: Cursor) -> Cursor:
    middle = _second(cursor.low + (cursor.high - cursor.low) / 2)
    # Both halves contain the second `middle`, so that no row falls between them. A window of two seconds is cut between these.
    upper = middle if middle > cursor.low else cursor.high
    return Cursor(cursor.low, middle, later=((upper, cursor.high), *cursor.later))


def _second(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(microsecond=0)
