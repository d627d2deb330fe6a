"""Split the calls for one claim: which answers count, and when splitting ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.builders import NOON, SECOND, element, source_context
from worker.core.errors import VodRefusedError, VodUnavailableError, VodUnreadableError
from worker.core.ids import reference_key
from worker.store import Store
from worker.store.inbox.sync_requests import LIVE, Claim, SyncRequest
from worker.store.rate_limit import Slot
from worker.sync import fetch
from worker.sync.fetch import Fetcher, FetchResult
from worker.sync.source_context import SyncSettings
from worker.vod.testing import FakeVod

SETTINGS = SyncSettings(lease=timedelta(seconds=60))


def slot(*, probing: bool = False) -> Slot:
    """Return permission for a call that is never late."""
    return Slot(at=NOON, due=time.monotonic() + 3600, probing=probing)


class SlotStore(Store):
    """A store without a database: each transaction returns the next of `slots`."""

    def __init__(self, slots: Iterator[Slot]) -> None:
        self._slots = slots

    def transact(self, work: Callable[[Connection], Any]) -> Any:
        return next(self._slots)


class Clock:
    """Replaces the module `time` in `fetch`. The test sets `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def fetch_keys(
    vod: FakeVod, keys: list[str], *, attempts: int = 0, first: Slot | None = None, then: Slot | None = None
) -> FetchResult:
    """Fetch `keys`, which failed `attempts` times before, with the slot `first` and any number of slots like `then`."""
    requests = tuple(SyncRequest(key, 1, attempts, "test", LIVE, NOON) for key in keys)
    claim = Claim("default", "token", NOON + 60 * SECOND, requests)
    store = SlotStore(iter([then or slot()] * 100))
    return Fetcher(store, source_context(vod, SETTINGS), claim, sleep=lambda _seconds: None).fetch(keys, first or slot())


def test_not_found_for_a_batch_of_media_ids_means_that_all_are_missing() -> None:
    vod = FakeVod()
    vod.fail(VodRefusedError("not found", code="InvalidVideo.NotFound", status=404))

    result = fetch_keys(vod, ["a", "b"])

    assert [answer.missing for answer, _ in result.answers] == [{"a", "b"}]
    assert len(vod.calls) == 1


def test_not_found_for_a_batch_with_a_reference_id_leads_to_a_call_for_each_id() -> None:
    """The error may concern only the reference id, so it does not prove that the media ids are missing."""
    vod = FakeVod()
    vod.put(element("a"))
    vod.fail(VodRefusedError("not found", code="InvalidVideo.NotFound", status=404))

    result = fetch_keys(vod, ["a", reference_key("ref-000001")])

    assert vod.calls == [["a", "ref-000001"], ["a"], ["ref-000001"]]
    assert [media.media_id for answer, _ in result.answers for media in answer.media] == ["a"]
    assert [answer.missing for answer, _ in result.answers] == [frozenset(), frozenset()]
    assert [answer.missing_references for answer, _ in result.answers] == [frozenset(), {"ref-000001"}]


def test_a_reference_id_that_is_not_found_alone_is_refused() -> None:
    vod = FakeVod()
    vod.fail(VodRefusedError("not found", code="InvalidVideo.NotFound", status=404))

    result = fetch_keys(vod, [reference_key("ref-000001")])

    assert result.answers == []
    assert [error.code for error in result.refused.values()] == ["InvalidVideo.NotFound"]
    assert list(result.refused) == [reference_key("ref-000001")]


@pytest.mark.parametrize(("first", "later"), [(True, False), (False, True)], ids=["first call", "later calls"])
def test_a_claim_is_a_probe_if_one_of_its_calls_was(first: bool, later: bool) -> None:
    vod = FakeVod()
    vod.fail(VodRefusedError("one of them", code="InvalidParameter", status=400))

    result = fetch_keys(vod, ["a", "b"], first=slot(probing=first), then=slot(probing=later))

    assert result.calls == 3
    assert result.probing


def test_a_claim_without_a_probing_slot_is_not_a_probe() -> None:
    vod = FakeVod()
    vod.fail(VodRefusedError("one of them", code="InvalidParameter", status=400))

    result = fetch_keys(vod, ["a", "b"])

    assert not result.probing


@pytest.mark.parametrize(
    ("seconds", "calls"), [(29, [["a", "b"], ["a"], ["b"]]), (31, [["a", "b"]])], ids=["in time", "half of the lease is over"]
)
@pytest.mark.parametrize(
    "error", [VodUnavailableError("no answer"), VodUnreadableError("broken line")], ids=["no answer", "unreadable"]
)
def test_a_failed_batch_is_halved_only_in_the_first_half_of_the_lease(
    monkeypatch: pytest.MonkeyPatch, error: VodUnavailableError, seconds: float, calls: list[list[str]]
) -> None:
    clock, vod = Clock(), FakeVod()
    monkeypatch.setattr(fetch, "time", clock)

    def time_out() -> None:
        clock.seconds = seconds
        vod.fail(error)

    vod.during_call = time_out

    result = fetch_keys(vod, ["a", "b"], attempts=1)

    assert vod.calls == calls
    assert result.failed.keys() == {"a", "b"}


def test_keys_that_did_not_fail_before_are_not_halved() -> None:
    vod = FakeVod()
    vod.fail(VodUnavailableError("no answer"))

    result = fetch_keys(vod, ["a", "b"])

    assert vod.calls == [["a", "b"]]
    assert result.failed.keys() == {"a", "b"}
