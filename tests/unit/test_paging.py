"""Page through a listing whose page numbers reach 5,000 rows, in any order, while the library changes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.listing import MAX_PAGED_ROWS, PAGE_ROWS, ListedMedia, Page
from worker.sync.jobs.paging import INDEX_DELAY, Cursor, PagingError, begin, match, next_cursor, restart
from worker.sync.jobs.step import to_json

START = datetime(2025, 1, 1, tzinfo=UTC)

#: Returns anything that can be compared, so Any.
SortKey = Callable[[ListedMedia], Any]


def created_at(row: ListedMedia) -> datetime:
    assert row.created_at is not None
    return row.created_at


@dataclass
class Listing:
    """VOD's listing: both ends of a range are included, rows have an order, and rows after 5,000 need a token."""

    seconds: list[int]
    #: Sort key of the rows. None: the order that was requested.
    order: SortKey | None = None
    tokens: bool = True
    #: The total that VOD reports, by the real one.
    total: Callable[[int], int | None] = lambda total: total
    #: How many rows are missing at the start of the third page.
    missing_rows: int = 0
    calls: int = 0
    rows: list[ListedMedia] = field(init=False)
    _window: object = None
    _matching: list[ListedMedia] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = [ListedMedia(f"m{index}", START + timedelta(seconds=second), None) for index, second in enumerate(self.seconds)]

    def page(self, cursor: Cursor) -> Page:
        self.calls += 1
        assert cursor.page * PAGE_ROWS <= MAX_PAGED_ROWS or cursor.token
        assert (cursor.token is not None) <= cursor.scrolling
        if self._window != (window := (cursor.low, cursor.high, len(self.rows), self.rows[:1])):
            self._window = window
            self._matching = [row for row in self.rows if row.created_at and cursor.low <= row.created_at <= cursor.high]
            self._matching.sort(key=self.order or created_at)
        first = (cursor.page - 1) * PAGE_ROWS
        rows = tuple(self._matching[first : first + PAGE_ROWS])
        if cursor.page == 3:
            rows = rows[self.missing_rows :]
        return Page(rows, len(rows), self.total(len(self._matching)), "token" if self.tokens else None)

    @property
    def ids(self) -> set[str]:
        return {row.media_id for row in self.rows}


def list_all(
    listing: Listing, *, meanwhile: Callable[[int], object] = lambda call: None, now: datetime = START + timedelta(days=1)
) -> list[str]:
    """Return every id in the order in which it was listed. `meanwhile` is called after each page with the number of calls.

    The cursor is written as JSON and read again before each page.
    """
    cursor, ids = begin(None, None, now=now + INDEX_DELAY), []
    while not cursor.over:
        cursor = msgspec.convert(json.loads(json.dumps(to_json(cursor))), Cursor)
        result = next_cursor(cursor, listing.page(cursor))
        ids += [row.media_id for row in result.rows]
        cursor = result.cursor
        meanwhile(listing.calls)
        assert listing.calls < 2_000
    return ids


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 4_999, 5_000, 5_001, 12_345])
def test_every_row_is_listed_in_hardly_more_calls_than_there_are_pages(count: int) -> None:
    listing = Listing([index * 7 for index in range(count)])

    ids = list_all(listing)

    assert set(ids) == listing.ids
    assert len(ids) <= count + count // MAX_PAGED_ROWS + 1
    assert listing.calls <= count // PAGE_ROWS + 2 + count // MAX_PAGED_ROWS


def test_a_second_with_more_rows_than_page_numbers_reach_is_listed_whole() -> None:
    listing = Listing([5] * 250 + [9] * 6_000 + [10] * 300)

    assert set(list_all(listing)) == listing.ids


def test_a_second_with_too_many_rows_is_an_error_if_vod_returns_no_token() -> None:
    with pytest.raises(PagingError, match="2025-01-01T00:00:09Z"):
        list_all(Listing([9] * 6_000, tokens=False))


@pytest.mark.parametrize(
    "order",
    [lambda row: crc32(row.media_id.encode()), lambda row: row.media_id, lambda row: -row.created_at.timestamp()],
    ids=["none", "by id", "the newest first"],
)
@pytest.mark.parametrize(
    "total", [lambda total: total, lambda total: min(total, MAX_PAGED_ROWS), lambda _: None], ids=["right", "capped", "none"]
)
def test_a_listing_in_another_order_is_halved(order: SortKey, total: Callable[[int], int | None]) -> None:
    listing = Listing([index % 1_000 for index in range(5_300)], order=order, total=total, tokens=False)

    assert set(list_all(listing)) == listing.ids


@pytest.mark.parametrize("total", [lambda total: min(total, MAX_PAGED_ROWS), lambda total: max(0, total - 130), lambda _: None])
@pytest.mark.parametrize("count", [5_000, 5_230, 12_345])
def test_a_total_that_is_too_low_does_not_end_the_listing(count: int, total: Callable[[int], int | None]) -> None:
    listing = Listing([index * 7 for index in range(count)], total=total)

    assert set(list_all(listing)) == listing.ids


def test_a_page_that_is_not_full_does_not_end_the_listing() -> None:
    listing = Listing([index * 7 for index in range(5_230)], missing_rows=1)

    assert len(set(list_all(listing))) >= 5_230 - 2


def test_totals_that_go_up_and_down_do_not_prevent_the_end_of_the_listing() -> None:
    listing = Listing([index // 300 for index in range(1_500)])
    listing.total = lambda total: total - listing.calls % 2

    assert set(list_all(listing)) == listing.ids


def test_a_library_is_listed_while_assets_are_deleted_all_the_time() -> None:
    listing = Listing([index * 7 for index in range(3_000)])
    remaining = listing.rows[400:]

    ids = list_all(listing, meanwhile=lambda call: listing.rows.pop(0))

    assert {row.media_id for row in remaining} <= set(ids)
    assert listing.calls < 100


def test_a_refused_token_starts_the_window_again_at_most_five_times() -> None:
    scrolling = Cursor(START, START, page=60, token="expired", scrolling=True)

    restarted = restart(scrolling)
    for _ in range(4):
        restarted = restart(restarted)

    assert (restarted.low, restarted.page, restarted.token, restarted.scrolling) == (START, 1, None, True)
    with pytest.raises(PagingError, match="ScrollToken"):
        restart(restarted)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 1_500), spread=st.sampled_from([1, 5, 100, 10_000]))
def test_rows_that_stay_are_never_missed_while_others_come_and_go(seed: int, count: int, spread: int) -> None:
    generator = random.Random(seed)
    listing = Listing([generator.randrange(spread) for _ in range(count)])
    staying = listing.ids

    def meanwhile(call: int) -> None:
        if call < 60 and listing.rows and generator.random() < 0.3:
            for _ in range(generator.randrange(150)):
                if listing.rows:
                    staying.discard(listing.rows.pop(generator.randrange(len(listing.rows))).media_id)
        if call < 60 and generator.random() < 0.3:
            for number in range(generator.randrange(50)):
                listing.rows.append(ListedMedia(f"new-{call}-{number}", START + timedelta(seconds=spread + call), None))
        # The count of rows may be the same although rows changed.
        listing._window = None

    ids = list_all(listing, meanwhile=meanwhile, now=START + timedelta(seconds=spread))

    assert staying <= set(ids)


def test_the_filter_has_the_syntax_of_vod() -> None:
    shanghai = timezone(timedelta(hours=8))
    cursor = begin(START.astimezone(shanghai), START + timedelta(days=1), now=START + timedelta(days=2))

    assert match(cursor, statuses=("Normal", "Blocked")) == (
        "CreationTime = ['2025-01-01T00:00:00Z','2025-01-02T00:00:00Z'] and Status in ('Normal','Blocked')",
        "CreationTime:Asc",
    )
