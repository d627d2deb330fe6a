"""The answers of the two operations, and how faults change them."""

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


class LibraryApi:
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


def test_known_ids_are_returned_and_unknown_ones_listed() -> None:
    api = LibraryApi()

    answer = api.batch(api.id(1), UNKNOWN, api.id(2))

    assert ids(answer) == [api.id(1), api.id(2)]
    assert answer["NonExistMediaIds"] == [UNKNOWN]
    assert answer["ForbiddenMediaIds"] == []


def test_assets_are_found_by_reference_id() -> None:
    api = LibraryApi()
    reference = api.library.ids.reference_id(3)
    assert reference is not None

    answer = api.batch(references=(reference, "ref-unknown"))

    assert ids(answer) == [api.id(3)]
    assert answer["MediaInfos"][0]["MediaInfo"]["ReferenceId"] == reference
    assert answer["NonExistReferenceIds"] == ["ref-unknown"]


def test_a_repeated_id_is_answered_once() -> None:
    api = LibraryApi()

    assert ids(api.batch(api.id(1), api.id(1))) == [api.id(1)]


def test_more_than_twenty_ids_are_refused() -> None:
    api = LibraryApi()
    api.batch(*map(api.id, range(20)))

    with pytest.raises(ApiError) as refused:
        api.batch(*map(api.id, range(21)))

    assert (refused.value.code, refused.value.status) == ("VideoListExceededMax", 400)


def test_a_call_without_ids_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        LibraryApi().batch()

    assert refused.value.code == "MissingParameter"


def test_with_quirks_the_order_differs_from_the_request_and_lists_can_be_wrapped() -> None:
    api = LibraryApi(plain=False)
    requested = [api.id(index) for index in range(15)]
    unknown = [f"{number:032x}" for number in range(20)]

    answer = api.batch(*requested, unknown[0])
    shapes = [api.batch(media_id, "feed")["NonExistMediaIds"] for media_id in unknown]

    assert sorted(ids(answer)) == sorted(requested)
    assert ids(answer) != requested
    assert {len(shape) for shape in shapes} == {1, 2}
    for media_id, shape in zip(unknown, shapes, strict=True):
        assert (json.loads(shape[0]) if len(shape) == 1 else shape) == [media_id, "feed"]


def test_one_poisonous_id_fails_its_batch() -> None:
    api = LibraryApi()
    api.injector.set(Faults(poisonous={api.id(7)}))

    with pytest.raises(ApiError) as refused:
        api.batch(api.id(6), api.id(7))

    assert (refused.value.code, refused.value.status) == ("InvalidParameter", 400)
    assert ids(api.batch(api.id(6))) == [api.id(6)]


def test_forbidden_gone_and_late_ids_are_answered_as_such() -> None:
    api = LibraryApi()
    faults = Faults(forbidden={api.id(1)}, gone={api.id(2)}, late={api.id(3): 30})
    api.injector.set(faults, now=NOW)

    early = api.batch(*map(api.id, range(5)), now=NOW + 29)
    later = api.batch(*map(api.id, range(5)), now=NOW + 30)

    assert early["ForbiddenMediaIds"] == [api.id(1)]
    assert early["NonExistMediaIds"] == [api.id(2), api.id(3)]
    assert later["NonExistMediaIds"] == [api.id(2)]


def test_a_deleted_asset_does_not_exist() -> None:
    api = LibraryApi()

    api.library.delete(4, NOW)

    assert api.batch(api.id(4))["NonExistMediaIds"] == [api.id(4)]


def test_an_api_with_a_delay_shows_an_earlier_state() -> None:
    api = LibraryApi()
    upload = api.library.add(1, now=NOW, life_seconds=0)
    media_id = api.id(upload.first)
    api.injector.set(Faults(lag_seconds=2))

    assert api.batch(media_id, now=NOW + 1)["NonExistMediaIds"] == [media_id]
    assert ids(api.batch(media_id, now=NOW + 2)) == [media_id]


def test_a_batch_of_unknown_ids_can_be_refused() -> None:
    api = LibraryApi()
    api.injector.set(Faults(refuse_all_unknown=True))

    with pytest.raises(ApiError) as refused:
        api.batch(UNKNOWN)

    assert (refused.value.code, refused.value.status) == ("InvalidVideo.NotFound", 404)
    assert ids(api.batch(UNKNOWN, api.id(1))) == [api.id(1)]


def test_get_video_info_returns_one_asset_or_an_error() -> None:
    api = LibraryApi()
    api.injector.set(Faults(forbidden={api.id(2)}))

    answer = api.call("GetVideoInfo", {"VideoId": api.id(1)})

    assert answer["Video"]["VideoId"] == api.id(1)
    for parameters, code in (
        ({"VideoId": UNKNOWN}, "InvalidVideo.NotFound"),
        ({"ReferenceId": "ref-unknown"}, "InvalidVideo.NotFound"),
        ({"VideoId": api.id(2)}, "Forbidden"),
        ({}, "MissingParameter"),
    ):
        with pytest.raises(ApiError) as refused:
            api.call("GetVideoInfo", parameters)
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
