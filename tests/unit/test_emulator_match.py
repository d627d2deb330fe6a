"""Match expressions are read as VOD documents them, and everything else is refused."""

from __future__ import annotations

from typing import Any

import pytest

from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.match import parse

#: 2025-11-24T00:00:00Z
MIDNIGHT = 1_763_942_400


class FakeAsset:
    """An asset with fixed fields."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def text(self, name: str) -> str | None:
        return self._fields.get(name)

    def number(self, name: str) -> float | None:
        return self._fields.get(name)


def matches(expression: str, **fields: Any) -> bool:
    return all(condition.matches(FakeAsset(**fields)) for condition in parse(expression))


@pytest.mark.parametrize("expression", ["", "  "])
def test_an_empty_expression_matches_everything(expression: str) -> None:
    assert parse(expression) == ()


@pytest.mark.parametrize(
    ("expression", "matching", "other"),
    [
        ("Status = 'Normal'", {"Status": "Normal"}, {"Status": "normal"}),
        ("Status='Normal'", {"Status": "Normal"}, {}),
        ("MediaId = 'a1'", {"MediaId": "a1"}, {"MediaId": "a12"}),
        ("Title = 'KÖNIG'", {"Title": "Der könig lacht"}, {"Title": "Die Dame lacht"}),
        ("Title in ('one', 'two')", {"Title": "Twofold"}, {"Title": "three"}),
        ("Status in ('Normal','Blocked')", {"Status": "Blocked"}, {"Status": "Checking"}),
        ("CateId = 12", {"CateId": "12"}, {"CateId": "120"}),
        ("CateId in (12, '13')", {"CateId": "13"}, {"CateId": "14"}),
        ("Size = 5", {"Size": 5}, {"Size": 6}),
        ("Size in (5, 7)", {"Size": 7}, {"Size": 6}),
        ("Status='Normal' and CateId='1'", {"Status": "Normal", "CateId": "1"}, {"Status": "Normal", "CateId": "2"}),
        ("(Status='Normal' or CateId='1')", {"Status": "Blocked", "CateId": "1"}, {"Status": "Blocked", "CateId": "2"}),
        ("CateId='1' AND (Status='a' OR Status='b')", {"CateId": "1", "Status": "b"}, {"CateId": "1", "Status": "c"}),
        ("(CateId='1' or (Status='a' and AppId='x'))", {"Status": "a", "AppId": "x"}, {"Status": "a", "AppId": "y"}),
        ("Tags = ' and (x) '", {"Tags": "rock and (x) roll"}, {"Tags": "rock"}),
    ],
)
def test_a_condition_matches_only_some_assets(expression: str, matching: dict[str, Any], other: dict[str, Any]) -> None:
    assert matches(expression, **matching)
    assert not matches(expression, **other)


@pytest.mark.parametrize(
    ("bounds", "within"),
    [
        ("(10, 20)", [11, 15, 19]),
        ("[10, 20]", [10, 11, 15, 19, 20]),
        ("['10', '20']", [10, 11, 15, 19, 20]),
        ("(10,)", [11, 15, 19, 20, 21]),
        ("[10,]", [10, 11, 15, 19, 20, 21]),
        ("(,20)", [9, 10, 11, 15, 19]),
        ("[,20]", [9, 10, 11, 15, 19, 20]),
        ("[20, 10]", []),
    ],
)
@pytest.mark.parametrize("name", ["Size", "Duration"])
def test_ranges_are_open_closed_or_one_sided(name: str, bounds: str, within: list[int]) -> None:
    found = [number for number in (9, 10, 11, 15, 19, 20, 21) if matches(f"{name} = {bounds}", **{name: number})]

    assert found == within


@pytest.mark.parametrize("name", ["CreationTime", "ModificationTime"])
def test_times_are_compared_by_the_second(name: str) -> None:
    closed = f"{name} = ['2025-11-24T00:00:00Z','2025-11-24T00:00:01Z']"
    opened = f"{name} = ('2025-11-24T00:00:00Z','2025-11-24T00:00:02Z')"

    assert [second for second in range(-1, 4) if matches(closed, **{name: MIDNIGHT + second})] == [0, 1]
    assert [second for second in range(-1, 4) if matches(opened, **{name: MIDNIGHT + second})] == [1]


def test_a_missing_field_is_in_no_range() -> None:
    assert not matches("Duration = [0,]")


@pytest.mark.parametrize(
    "expression",
    [
        "Status",
        "Status =",
        "Status = Normal",
        'Status = "Normal"',
        "Status = 'Normal",
        "Status == 'Normal'",
        "Status != 'Normal'",
        "Status in ()",
        "Status in 'Normal'",
        "Status in ('a' 'b')",
        "Status = ['a','b']",
        "Colour = 'red'",
        "Status = 'a' or Status = 'b'",
        "Status = 'a' and CateId = '1' or CateId = '2'",
        "(Status = 'a' or Status = 'b' and CateId = '1')",
        "(Status = 'a'",
        "Status = 'a')",
        "Status = 'a' and",
        "and Status = 'a'",
        "Status = 'a' CateId = '1'",
        "CreationTime = ['2025-11-24','2025-11-25']",
        "CreationTime = ['2025-11-24T00:00:00Z','2025-11-25T00:00:00Z')",
        "CreationTime = (,)",
        "CreationTime = 'yesterday'",
        "Size = (1)",
        "Size = ('a','b')",
        "§",
    ],
)
def test_an_invalid_expression_is_refused(expression: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse(expression)

    assert (refused.value.code, refused.value.status) == ("ErrorMatchSyntax", 400)


def test_a_hundred_values_may_be_listed_and_no_more() -> None:
    def listed(count: int) -> str:
        values = ",".join(f"'{number}'" for number in range(count))
        return f"MediaId in ({values})"

    assert matches(listed(100), MediaId="99")
    with pytest.raises(ApiError) as refused:
        parse(listed(101))
    assert refused.value.code == "ErrorMatchSyntax"
