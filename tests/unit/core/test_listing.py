"""Pages of the library's listing whose rows have odd values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from worker.core.listing import ListedMedia, keep_application, read_page

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
    assert (page.unreadable, page.total, page.token) == ({"MediaId": 1, "Total": 1}, None, "t")


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


@pytest.mark.parametrize(
    ("sent", "total"),
    [(0, 0), ("7", 7), (7.0, 7), (-1, None), (True, None), ("seven", None), ("\u00b2", None), ("", None), ([7], None), (7.5, None)],
)
def test_a_total_is_a_whole_number_or_absent(sent: Any, total: int | None) -> None:
    assert read_page({"Total": sent}).total == total


@pytest.mark.parametrize(("sent", "token"), [("t", "t"), (7, "7"), ("", None), (["t"], None), ({}, None), ("t\0", "t\ufffd")])
def test_a_scroll_token_is_a_storable_text_or_absent(sent: Any, token: str | None) -> None:
    assert read_page({"ScrollToken": sent}).token == token


def test_rows_of_other_applications_are_emptied_and_still_count() -> None:
    rows = [
        {"MediaId": "a", "Video": {"AppId": "app-1"}},
        {"MediaId": "b", "Video": {"AppId": "app-2"}},
        {"MediaId": "c", "Audio": {"AppId": " app-1 "}},
        {"MediaId": "d", "Audio": {"AppId": ""}},
        {"MediaId": "e", "Video": {"AppId": 2}},
        "row",
    ]

    kept = keep_application("app-1", {"Total": 6, "MediaList": rows})

    assert kept == {"Total": 6, "MediaList": [rows[0], {}, *rows[2:]]}
    assert read_page(kept).length == 6


def test_an_answer_without_a_list_is_not_changed_by_the_choice_of_an_application() -> None:
    assert keep_application("app-1", {"Total": 0, "MediaList": None}) == {"Total": 0, "MediaList": None}
