"""The smallest windows that a walk can halve."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.core.listing import PAGE_ROWS, WALL, Listed, Page
from worker.sync.jobs.paging import Position, advance

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
    newest_first = tuple(Listed(f"m{number}", START + (number < PAGE_ROWS // 2) * SECOND, None) for number in range(PAGE_ROWS))
    first_page = Page(rows=newest_first, length=PAGE_ROWS, total=WALL + 300, token=None)

    position = advance(Position(START, START + length), first_page).position

    assert (position.low, position.high) == (START, first_end)
    assert position.later == ((second_begin, START + length),)
