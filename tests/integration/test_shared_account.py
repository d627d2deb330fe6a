"""Sources of one account share its rate limit: what VOD reports to one of them holds for all."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, SETTINGS, element, request, source_context
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.store import Store
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.store.tables import quota
from worker.sync.batch import BatchResult, sync_batch
from worker.sync.source_context import SyncSettings
from worker.vod.testing import FakeVod

SHARED = replace(SETTINGS, rate_limit_name="account")

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


def sync(store: Store, vod: FakeVod, source: str, *, settings: SyncSettings = SHARED) -> BatchResult:
    return sync_batch(store, source_context(vod, settings, source=source), now=NOON + SECOND, sleep=lambda _seconds: None)


def back_off(store: Store, pause: timedelta = timedelta(0), *, fault: str = "Throttling.Api") -> None:
    store.transact(lambda connection: RateLimiter(connection).back_off("account", BATCH_GET_MEDIA_INFOS, pause, fault=fault))


def faults(store: Store) -> dict[str, str]:
    """Return why calls fail, by rate limit."""
    with store.reading() as connection:
        return {row.source: row.fault for row in RateLimiter(connection).back_offs()}


def rate_limits(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.execute(select(quota.c.source)).scalars())


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(VodThrottledError("Throttling.User", retry_after=30), 25), (VodCredentialsError("InvalidAccessKeyId"), 50)],
    ids=str,
)
def test_what_vod_reports_to_one_source_stops_the_others_of_its_account(
    store: Store, vod: FakeVod, error: VodError, seconds: float
) -> None:
    request(store, "a", source="one")
    request(store, "b", source="two")
    vod.fail(error)

    sync(store, vod, "one")
    other = sync(store, vod, "two")

    assert vod.calls == [["a"]]
    assert other.wait is not None
    assert other.wait > seconds * SECOND


def test_a_call_of_one_source_takes_the_slot_of_another(store: Store, vod: FakeVod) -> None:
    slow = SyncSettings(rate_limit_name="account", calls_per_second=0.1)
    request(store, "a", source="one")
    request(store, "b", source="two")

    sync(store, vod, "one", settings=slow)
    other = sync(store, vod, "two", settings=slow)

    assert vod.calls == [["a"]]
    assert other.wait is not None
    assert other.wait > 5 * SECOND


def test_further_calls_of_a_claim_take_slots_of_the_account(store: Store, vod: FakeVod) -> None:
    request(store, "a", "b", source="one")
    vod.fail(VodRefusedError("one of them", code="InvalidParameter", status=400))

    report = sync(store, vod, "one")

    assert report.calls == 3
    assert rate_limits(store) == ["account"]


def test_an_answer_to_one_source_ends_the_back_off_of_its_account(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))
    request(store, "a", source="one")
    back_off(store)

    sync(store, vod, "one")

    assert faults(store) == {}


def test_an_outage_during_a_back_off_is_recorded_for_the_account(store: Store, vod: FakeVod) -> None:
    request(store, "a", source="one")
    back_off(store)
    vod.fail(VodUnavailableError("502"))

    sync(store, vod, "one")

    assert faults(store) == {"account": "502"}
    assert rate_limits(store) == ["account"]


def test_a_late_call_is_counted_for_the_account_when_it_left(store: Store, vod: FakeVod) -> None:
    request(store, "a", source="one")

    def leave_late() -> None:
        vod.sent_at = time.monotonic() + 5

    vod.during_call = leave_late

    sync(store, vod, "one")

    with store.reading() as connection:
        row = connection.execute(select(quota.c.source, quota.c.next_at_us, quota.c.started_us)).one()
    assert row.source == "account"
    assert row.started_us[-1] - row.next_at_us > 4_000_000


def test_sources_without_a_shared_account_have_rate_limits_of_their_own(store: Store, vod: FakeVod) -> None:
    request(store, "a", source="one")
    request(store, "b", source="two")
    vod.fail(VodThrottledError("Throttling.User", retry_after=30))

    sync(store, vod, "one", settings=SyncSettings())
    sync(store, vod, "two", settings=SyncSettings())

    assert vod.calls == [["a"], ["b"]]
    assert sorted(rate_limits(store)) == ["one", "two"]
