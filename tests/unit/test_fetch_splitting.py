"""How the calls for one claim are split: which answers may be believed, and when splitting ends."""

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
    """Permission for a call that is never late."""
    return Slot(at=NOON, due=time.monotonic() + 3600, probing=probing)


class SlotStore(Store):
    """A store without a database: each transaction takes the next of `slots`."""

    def __init__(self, slots: Iterator[Slot]) -> None:
        self._slots = slots

    def transact(self, work: Callable[[Connection], Any]) -> Any:
        return next(self._slots)


class Clock:
    """Replaces the `time` module in `fetch`; a test sets the time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def ask(vod: FakeVod, keys: list[str], *, attempts: int = 0, first: Slot | None = None, then: Slot | None = None) -> FetchResult:
    """Fetch `keys`, which failed `attempts` times before, with the slot `first` and any number of slots like `then`."""
    requests = tuple(SyncRequest(key, 1, attempts, "test", LIVE, NOON) for key in keys)
    claim = Claim("default", "token", NOON + 60 * SECOND, requests)
    following = then or slot()
    store = SlotStore(iter([following] * 100))
    return Fetcher(store, source_context(vod, SETTINGS), claim, sleep=lambda _seconds: None).fetch(keys, first or slot())


def test_not_found_for_a_batch_of_media_ids_means_that_all_are_missing() -> None:
    vod = FakeVod()
    vod.fail(VodRefusedError("not found", code="InvalidVideo.NotFound", status=404))

    fetched = ask(vod, ["a", "b"])

    assert [answer.missing for answer, _ in fetched.answers] == [{"a", "b"}]
    assert len(vod.calls) == 1


def test_not_found_for_a_batch_with_a_reference_id_is_asked_for_each_id() -> None:
    """VOD may mean only the reference id, so that the error does not prove the media ids missing."""
    vod = FakeVod()
    vod.put(element("a"))
    vod.fail(VodRefusedError("not found", code="InvalidVideo.NotFound", status=404))

    fetched = ask(vod, ["a", reference_key("ref-000001")])

    assert vod.calls == [["a", "ref-000001"], ["a"], ["ref-000001"]]
    assert [media.media_id for answer, _ in fetched.answers for media in answer.media] == ["a"]
    assert [answer.missing for answer, _ in fetched.answers] == [frozenset(), frozenset()]
    assert [answer.missing_references for answer, _ in fetched.answers] == [frozenset(), {"ref-000001"}]


def test_a_reference_id_that_is_not_found_alone_is_refused() -> None:
    vod = FakeVod()
    vod.fail(VodRefusedError("not found", code="InvalidVideo.NotFound", status=404))

    fetched = ask(vod, [reference_key("ref-000001")])

    assert fetched.answers == []
    assert [error.code for error in fetched.refused.values()] == ["InvalidVideo.NotFound"]
    assert list(fetched.refused) == [reference_key("ref-000001")]


@pytest.mark.parametrize(("first", "later"), [(True, False), (False, True)], ids=["first call", "later calls"])
def test_a_claim_is_a_probe_if_one_of_its_calls_was(first: bool, later: bool) -> None:
    vod = FakeVod()
    vod.fail(VodRefusedError("one of them", code="InvalidParameter", status=400))

    fetched = ask(vod, ["a", "b"], first=slot(probing=first), then=slot(probing=later))

    assert fetched.calls == 3
    assert fetched.probing


def test_a_claim_without_a_probing_slot_is_not_a_probe() -> None:
    vod = FakeVod()
    vod.fail(VodRefusedError("one of them", code="InvalidParameter", status=400))

    fetched = ask(vod, ["a", "b"])

    assert not fetched.probing


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

    fetched = ask(vod, ["a", "b"], attempts=1)

    assert vod.calls == calls
    assert fetched.failed.keys() == {"a", "b"}


def test_keys_that_did_not_fail_before_are_not_halved() -> None:
    vod = FakeVod()
    vod.fail(VodUnavailableError("no answer"))

    fetched = ask(vod, ["a", "b"])

    assert vod.calls == [["a", "b"]]
    assert fetched.failed.keys() == {"a", "b"}
