"""Pages of the library's listing whose rows have odd values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from worker.core.listing import ListedMedia, read_page

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
GOOD = {"MediaId": "good", "CreationTime": "2026-01-02T12:00:00Z", "Video": {"ModificationTime": "2026-01-02T12:00:00Z"}}


@pytest.mark.parametrize("odd", [1484135465000, "N/A", "0000-00-00T00:00:00Z", {"x": 1}, [1], True, float("nan")])
@pytest.mark.parametrize("name", ["CreationTime", "ModificationTime"])
def test_an_odd_time_costs_only_that_time(name: str, odd: object) -> None:
    page = read_page({"Total": 2, "MediaList": [{"MediaId": "odd", name: odd}, GOOD]})

    assert page.rows == (ListedMedia("odd", None, None), ListedMedia("good", NOON, NOON))
    assert (page.length, page.unreadable) == (2, {name: 1})


@pytest.mark.parametrize("odd", [{"x": 1}, [1], "10a5fa36****", "", None, float("nan"), "x" * 65])
def test_a_row_with_an_odd_id_is_left_out_and_counted(odd: object) -> None:
    page = read_page({"Total": 2, "MediaList": [{"MediaId": odd}, GOOD]})

    assert page.rows == (ListedMedia("good", NOON, NOON),)
    assert (page.length, page.unreadable) == (2, {"MediaId": 1})


@pytest.mark.parametrize("row", [None, 7, "text", [], {"Video": None}])
def test_a_row_that_is_not_an_asset_is_left_out_and_counted(row: object) -> None:
    page = read_page({"MediaList": [row, GOOD], "Total": {"x": 1}, "ScrollToken": "t"})

    assert page.rows == (ListedMedia("good", NOON, NOON),)
    assert (page.unreadable, page.total, page.token) == ({"MediaId": 1}, None, "t")


def test_an_id_or_time_that_cannot_be_read_is_taken_from_the_object_inside_the_row() -> None:
    inner = {"VideoId": "inside", "CreationTime": "2026-01-02T12:00:00Z"}

    page = read_page({"MediaList": [{"MediaId": {"x": 1}, "CreationTime": "N/A", "Video": inner}]})

    assert page.rows == (ListedMedia("inside", NOON, None),)
    assert page.unreadable == {}


def test_empty_rows_are_those_of_other_applications_and_are_not_counted() -> None:
    page = read_page({"MediaList": [{}, GOOD], "ScrollToken": ["odd"]})

    assert (len(page.rows), page.length, page.token) == (1, 2, None)
    assert page.unreadable == {"ScrollToken": 1}


def test_a_page_of_any_shape_is_read() -> None:
    shapes: list[Any] = [{}, {"MediaList": None}, {"MediaList": {"x": 1}}, {"Total": "many"}]

    assert [read_page(shape).rows for shape in shapes] == [(), (), (), ()]
