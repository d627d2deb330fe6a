"""What do the two operations answer, and how do faults change it?"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.faults import FaultInjector, FaultRule, Faults
from worker.emulator.api.operations import Operations
from worker.emulator.library.library import Library

NOW = 1_764_000_000.0
UNKNOWN = "dead0000000000000000000000000001"


class Desk:
    """A library of 100 media with its two operations."""

    def __init__(self, *, plain: bool = True) -> None:
        self.library = Library(seed=1, existing=100, quirks=not plain)
        self.injector = FaultInjector(seed=1)
        operations = Operations(self.library, self.injector, {}, plain=plain)
        self._handlers = {"BatchGetMediaInfos": operations.batch_get_media_infos, "GetVideoInfo": operations.get_video_info}

    def id(self, index: int) -> str:
        return self.library.ids.media_id(index)

    def batch(self, *media_ids: str, references: tuple[str, ...] = (), now: float = NOW) -> dict[str, Any]:
        parameters = {"MediaIds": ",".join(media_ids), "ReferenceIds": ",".join(references)}
        return self.call("BatchGetMediaInfos", parameters, now)

    def call(self, operation: str, parameters: dict[str, str], now: float = NOW) -> dict[str, Any]:
        return asyncio.run(self._handlers[operation](parameters, now))


def ids(answer: dict[str, Any]) -> list[str]:
    return [element["MediaId"] for element in answer["MediaInfos"]]


def test_known_and_unknown_ids_are_told_apart() -> None:
    desk = Desk()

    answer = desk.batch(desk.id(1), UNKNOWN, desk.id(2))

    assert ids(answer) == [desk.id(1), desk.id(2)]
    assert answer["NonExistMediaIds"] == [UNKNOWN]
    assert answer["ForbiddenMediaIds"] == []


def test_reference_ids_lead_to_their_media() -> None:
    desk = Desk()
    reference = desk.library.ids.reference_id(3)
    assert reference is not None

    answer = desk.batch(references=(reference, "ref-nobody"))

    assert ids(answer) == [desk.id(3)]
    assert answer["MediaInfos"][0]["MediaInfo"]["ReferenceId"] == reference
    assert answer["NonExistReferenceIds"] == ["ref-nobody"]


def test_an_id_that_repeats_is_answered_once() -> None:
    desk = Desk()

    assert ids(desk.batch(desk.id(1), desk.id(1))) == [desk.id(1)]


def test_more_than_twenty_ids_are_refused() -> None:
    desk = Desk()
    desk.batch(*map(desk.id, range(20)))

    with pytest.raises(ApiError) as refused:
        desk.batch(*map(desk.id, range(21)))

    assert (refused.value.code, refused.value.status) == ("VideoListExceededMax", 400)


def test_a_call_without_ids_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        Desk().batch()

    assert refused.value.code == "MissingParameter"


def test_with_quirks_the_order_is_not_that_of_the_request_and_lists_come_packed() -> None:
    desk = Desk(plain=False)
    asked = [desk.id(index) for index in range(15)]
    unknown = [f"{number:032x}" for number in range(20)]

    answer = desk.batch(*asked, unknown[0])
    shapes = [desk.batch(media_id, "feed")["NonExistMediaIds"] for media_id in unknown]

    assert sorted(ids(answer)) == sorted(asked)
    assert ids(answer) != asked
    assert {len(shape) for shape in shapes} == {1, 2}
    for media_id, shape in zip(unknown, shapes, strict=True):
        assert (json.loads(shape[0]) if len(shape) == 1 else shape) == [media_id, "feed"]


def test_one_poisonous_id_spoils_its_batch() -> None:
    desk = Desk()
    desk.injector.set(Faults(poisonous={desk.id(7)}))

    with pytest.raises(ApiError) as refused:
        desk.batch(desk.id(6), desk.id(7))

    assert (refused.value.code, refused.value.status) == ("InvalidParameter", 400)
    assert ids(desk.batch(desk.id(6))) == [desk.id(6)]


def test_forbidden_gone_and_late_ids_are_answered_as_such() -> None:
    desk = Desk()
    faults = Faults(forbidden={desk.id(1)}, gone={desk.id(2)}, late={desk.id(3): 30})
    desk.injector.set(faults, now=NOW)

    early = desk.batch(*map(desk.id, range(5)), now=NOW + 29)
    later = desk.batch(*map(desk.id, range(5)), now=NOW + 30)

    assert early["ForbiddenMediaIds"] == [desk.id(1)]
    assert early["NonExistMediaIds"] == [desk.id(2), desk.id(3)]
    assert later["NonExistMediaIds"] == [desk.id(2)]


def test_a_deleted_medium_does_not_exist() -> None:
    desk = Desk()

    desk.library.delete(4, NOW)

    assert desk.batch(desk.id(4))["NonExistMediaIds"] == [desk.id(4)]


def test_a_lagging_api_shows_the_past() -> None:
    desk = Desk()
    upload = desk.library.add(1, now=NOW, life_seconds=0)
    media_id = desk.id(upload.first)
    desk.injector.set(Faults(lag_seconds=2))

    assert desk.batch(media_id, now=NOW + 1)["NonExistMediaIds"] == [media_id]
    assert ids(desk.batch(media_id, now=NOW + 2)) == [media_id]


def test_on_request_a_batch_of_unknown_ids_is_refused() -> None:
    desk = Desk()
    desk.injector.set(Faults(refuse_all_unknown=True))

    with pytest.raises(ApiError) as refused:
        desk.batch(UNKNOWN)

    assert (refused.value.code, refused.value.status) == ("InvalidVideo.NotFound", 404)
    assert ids(desk.batch(UNKNOWN, desk.id(1))) == [desk.id(1)]


def test_get_video_info_answers_one_or_refuses() -> None:
    desk = Desk()
    desk.injector.set(Faults(forbidden={desk.id(2)}))

    answer = desk.call("GetVideoInfo", {"VideoId": desk.id(1)})

    assert answer["Video"]["VideoId"] == desk.id(1)
    for parameters, code in (
        ({"VideoId": UNKNOWN}, "InvalidVideo.NotFound"),
        ({"ReferenceId": "ref-nobody"}, "InvalidVideo.NotFound"),
        ({"VideoId": desk.id(2)}, "Forbidden"),
        ({}, "MissingParameter"),
    ):
        with pytest.raises(ApiError) as refused:
            desk.call("GetVideoInfo", parameters)
        assert refused.value.code == code


def test_the_next_calls_fail_and_those_after_them_do_not() -> None:
    injector = FaultInjector(seed=1)
    injector.set(Faults(html=FaultRule(next=2, operation="BatchGetMediaInfos")))

    endings = [injector.terminal_fault(operation) for operation in ("GetVideoInfo", *["BatchGetMediaInfos"] * 3)]

    assert [ending and ending[0] for ending in endings] == [None, "html", "html", None]


def test_random_faults_repeat_with_the_seed() -> None:
    def struck(seed: int) -> list[bool]:
        injector = FaultInjector(seed)
        injector.set(Faults(reset=FaultRule(probability=0.3)))
        return [injector.terminal_fault("") is not None for _ in range(200)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 30 < sum(struck(1)) < 90
