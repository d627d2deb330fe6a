"""The smallest windows of a listing that can be halved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.core.listing import MAX_PAGED_ROWS, PAGE_ROWS, ListedMedia, Page
from worker.sync.jobs.paging import Cursor, next_cursor

START = datetime(2025, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("length", "first_end", "second_begin"),
    [
        pytest.param(SECOND, START, START + SECOND, id="two seconds"),
        pytest.param(2 * SECOND, START + SECOND, START + SECOND, id="three seconds"),
    ],
)
def test_an_unordered_window_is_halved_into_smaller_windows_without_a_gap(
    length: timedelta, first_end: datetime, second_begin: datetime
) -> None:
    newest_first = tuple(ListedMedia(f"m{number}", START + (number < PAGE_ROWS // 2) * SECOND, None) for number in range(PAGE_ROWS))
    first_page = Page(rows=newest_first, length=PAGE_ROWS, total=MAX_PAGED_ROWS + 300, token=None)

    cursor = next_cursor(Cursor(START, START + length), first_page).cursor

    assert (cursor.low, cursor.high) == (START, first_end)
    assert cursor.later == ((second_begin, START + length),)
