"""The walk through a listing with a wall at 5,000 rows, whatever it is like and whatever happens to the library meanwhile."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.listing import MAX_PAGED_ROWS, PAGE_ROWS, ListedMedia, Page
from worker.sync.jobs.paging import INDEX_DELAY, Cursor, PagingError, begin, match, next_cursor, restart
from worker.sync.jobs.step import to_json

START = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass
class Listing:
    """What VOD does: closed ranges, an order, a wall, and tokens behind it."""

    seconds: list[int]
    #: None keeps the order that was asked for; otherwise rows are sorted by that.
    order: Callable[[ListedMedia], object] | None = None
    tokens: bool = True
    #: What it says of a total.
    total: Callable[[int], int | None] = lambda total: total
    #: Rows that a page leaves out after it was cut.
    left_out: int = 0
    calls: int = 0
    rows: list[ListedMedia] = field(init=False)
    _window: object = None
    _found: list[ListedMedia] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = [ListedMedia(f"m{index}", START + timedelta(seconds=second), None) for index, second in enumerate(self.seconds)]

    def page(self, position: Cursor) -> Page:
        self.calls += 1
        assert position.page * PAGE_ROWS <= MAX_PAGED_ROWS or position.token
        assert (position.token is not None) <= position.scrolling
        if self._window != (window := (position.low, position.high, len(self.rows), self.rows[:1])):
            self._window = window
            self._found = [row for row in self.rows if row.created_at and position.low <= row.created_at <= position.high]
            self._found.sort(key=self.order or (lambda row: row.created_at))  # type: ignore[arg-type,return-value]
        found = self._found
        first = (position.page - 1) * PAGE_ROWS
        rows = tuple(found[first : first + PAGE_ROWS])
        if position.page == 3:
            rows = rows[self.left_out :]
        return Page(rows, len(rows), self.total(len(found)), "token" if self.tokens else None)

    @property
    def ids(self) -> set[str]:
        return {row.media_id for row in self.rows}


def walk(
    listing: Listing, *, meanwhile: Callable[[int], None] = lambda call: None, now: datetime = START + timedelta(days=1)
) -> list[str]:
    """Every id in the order in which the walk gave it; the position is read back from JSON before each page."""
    position, ids = begin(None, None, now=now + INDEX_DELAY), []
    while not position.over:
        position = msgspec.convert(json.loads(json.dumps(to_json(position))), Cursor)
        seen = next_cursor(position, listing.page(position))
        ids += [row.media_id for row in seen.rows]
        position = seen.cursor
        meanwhile(listing.calls)
        assert listing.calls < 2_000
    return ids


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 4_999, 5_000, 5_001, 12_345])
def test_every_row_comes_in_hardly_more_calls_than_there_are_pages(count: int) -> None:
    listing = Listing([index * 7 for index in range(count)])

    ids = walk(listing)

    assert set(ids) == listing.ids
    assert len(ids) <= count + count // MAX_PAGED_ROWS + 1
    assert listing.calls <= count // PAGE_ROWS + 2 + count // MAX_PAGED_ROWS


def test_more_rows_in_a_second_than_a_page_and_than_the_wall() -> None:
    listing = Listing([5] * 250 + [9] * 6_000 + [10] * 300)

    assert set(walk(listing)) == listing.ids


def test_a_full_second_without_tokens_is_refused() -> None:
    with pytest.raises(PagingError, match="2025-01-01T00:00:09Z"):
        walk(Listing([9] * 6_000, tokens=False))


@pytest.mark.parametrize(
    "order",
    [lambda row: crc32(row.media_id.encode()), lambda row: row.media_id, lambda row: -row.created_at.timestamp()],
    ids=["none", "by id", "the newest first"],
)
@pytest.mark.parametrize(
    "total", [lambda total: total, lambda total: min(total, MAX_PAGED_ROWS), lambda _: None], ids=["right", "capped", "none"]
)
def test_a_listing_in_another_order_is_halved(order: Callable[[ListedMedia], object], total: Callable[[int], int | None]) -> None:
    listing = Listing([index % 1_000 for index in range(5_300)], order=order, total=total, tokens=False)

    assert set(walk(listing)) == listing.ids


@pytest.mark.parametrize("total", [lambda total: min(total, MAX_PAGED_ROWS), lambda total: max(0, total - 130), lambda _: None])
@pytest.mark.parametrize("count", [5_000, 5_230, 12_345])
def test_a_total_that_is_too_low_does_not_end_the_walk(count: int, total: Callable[[int], int | None]) -> None:
    listing = Listing([index * 7 for index in range(count)], total=total)

    assert set(walk(listing)) == listing.ids


def test_a_page_that_is_not_full_does_not_end_the_walk() -> None:
    listing = Listing([index * 7 for index in range(5_230)], left_out=1)

    assert len(set(walk(listing))) >= 5_230 - 2


def test_totals_that_go_up_and_down_do_not_keep_the_walk() -> None:
    listing = Listing([index // 300 for index in range(1_500)])
    listing.total = lambda total: total - listing.calls % 2

    assert set(walk(listing)) == listing.ids


def test_a_library_from_which_somebody_deletes_all_the_time_is_walked_through() -> None:
    listing = Listing([index * 7 for index in range(3_000)])
    last = listing.rows[400:]

    ids = walk(listing, meanwhile=lambda call: listing.rows.pop(0) and None)  # type: ignore[func-returns-value]

    assert {row.media_id for row in last} <= set(ids)
    assert listing.calls < 100


def test_a_token_that_is_refused_begins_the_window_again_a_few_times() -> None:
    scrolling = Cursor(START, START, page=60, token="expired", scrolling=True)

    again = restart(scrolling)
    for _ in range(4):
        again = restart(again)

    assert (again.low, again.page, again.token, again.scrolling) == (START, 1, None, True)
    with pytest.raises(PagingError, match="ScrollToken"):
        restart(again)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 1_500), spread=st.sampled_from([1, 5, 100, 10_000]))
def test_rows_that_stay_are_never_missed_while_others_come_and_go(seed: int, count: int, spread: int) -> None:
    dice = random.Random(seed)
    listing = Listing([dice.randrange(spread) for _ in range(count)])
    staying = listing.ids

    def meanwhile(call: int) -> None:
        if call < 60 and listing.rows and dice.random() < 0.3:
            for _ in range(dice.randrange(150)):
                if listing.rows:
                    staying.discard(listing.rows.pop(dice.randrange(len(listing.rows))).media_id)
        if call < 60 and dice.random() < 0.3:
            for number in range(dice.randrange(50)):
                listing.rows.append(ListedMedia(f"new-{call}-{number}", START + timedelta(seconds=spread + call), None))
        # Popped and appended may be as many.
        listing._window = None

    ids = walk(listing, meanwhile=meanwhile, now=START + timedelta(seconds=spread))

    assert staying <= set(ids)


def test_the_filter_is_what_vod_understands() -> None:
    shanghai = timezone(timedelta(hours=8))
    position = begin(START.astimezone(shanghai), START + timedelta(days=1), now=START + timedelta(days=2))

    assert match(position, statuses=("Normal", "Blocked")) == (
        "CreationTime = ['2025-01-01T00:00:00Z','2025-01-02T00:00:00Z'] and Status in ('Normal','Blocked')",
        "CreationTime:Asc",
    )
