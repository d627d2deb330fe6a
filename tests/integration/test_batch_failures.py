"""Batches that fail: outages, throttling, refusals, unreadable answers and database errors; on each of the three databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import select

from tests.builders import NOON, SECOND, SETTINGS, claim, element, notify, source_context
from tests.fake_time import FakeTime
from worker.core.errors import (
    StoreUnavailableError,
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.store import Store
from worker.store.catalogue.assets import Catalogue
from worker.store.rate_limit import RateLimiter
from worker.store.tables import media, sync_request
from worker.sync.batch import BatchResult, sync_batch
from worker.sync.source_context import SyncSettings
from worker.vod.testing import FakeVod


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime().install(monkeypatch, "worker.store.rate_limit", "worker.sync.fetch", "worker.sync.batch")


def run(store: Store, vod: FakeVod, *, now: datetime = NOON + SECOND, settings: SyncSettings = SETTINGS) -> BatchResult:
    return sync_batch(store, source_context(vod, settings), now=now)


def states(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {row.media_id: row.state for row in connection.execute(select(media))}


def pending_requests(store: Store) -> dict[str, Any]:
    """Return the stored requests by id."""
    with store.reading() as connection:
        return {row.media_id: row for row in connection.execute(select(sync_request))}


def test_an_outage_is_retried_with_growing_pauses_until_the_dead_letter(store: Store, vod: FakeVod) -> None:
    settings = replace(SETTINGS, retry=replace(SETTINGS.retry, max_attempts=4))
    notify(store, "a")
    pauses = []
    at = NOON + SECOND
    for _ in range(3):
        vod.fail(VodUnavailableError("503"))
        run(store, vod, now=at, settings=settings)
        pauses.append((pending_requests(store)["a"].available_at - at).total_seconds())
        at = pending_requests(store)["a"].available_at + SECOND
    vod.fail(VodUnavailableError("503"))
    report = run(store, vod, now=at, settings=settings)

    assert pauses == [1, 2, 4]
    assert report.dead_lettered == 1
    dead_letter = pending_requests(store)["a"]
    assert (dead_letter.state, dead_letter.last_error, dead_letter.attempts) == ("dead", "503", 4)


def test_throttling_stops_all_calls_of_the_source_and_counts_no_attempt(store: Store, vod: FakeVod) -> None:
    notify(store, "a")
    vod.fail(VodThrottledError("Throttling.User", retry_after=30))

    run(store, vod)
    next_report = run(store, vod, now=NOON + 2 * SECOND)

    assert pending_requests(store)["a"].attempts == 0
    assert len(vod.calls) == 1
    assert next_report.wait is not None
    assert 25 < next_report.wait.total_seconds() <= 30


def test_wrong_credentials_stop_the_source_for_a_while_and_count_no_attempt(store: Store, vod: FakeVod) -> None:
    notify(store, "a")
    vod.fail(VodCredentialsError("InvalidAccessKeyId.NotFound"))

    run(store, vod)
    next_report = run(store, vod, now=NOON + 2 * SECOND)

    assert pending_requests(store)["a"].attempts == 0
    assert next_report.wait is not None
    assert next_report.wait.total_seconds() > 50


def faults(store: Store) -> list[str]:
    """Return the errors that caused the back-offs."""
    with store.reading() as connection:
        return [back_off.fault for back_off in RateLimiter(connection).back_offs()]


@pytest.mark.parametrize(
    ("next_error", "faults_after"),
    [
        (VodUnavailableError("502"), ["502"]),
        (VodThrottledError("Throttling.User"), ["Throttling.User"]),
        (VodRefusedError("no such asset", code="InvalidParameter"), []),
        (None, []),
    ],
    ids=str,
)
def test_a_back_off_has_the_last_error_of_vod(
    store: Store, vod: FakeVod, fake_time: FakeTime, next_error: VodError | None, faults_after: list[str]
) -> None:
    vod.put(element("a"))
    notify(store, "a")
    vod.fail(VodThrottledError("Throttling.Api", retry_after=0.01))
    run(store, vod)
    throttled = faults(store)
    fake_time.sleep(0.1)
    vod.fail(*([next_error] if next_error else []))

    run(store, vod, now=NOON + 2 * SECOND)

    assert throttled == ["Throttling.Api"]
    assert faults(store) == faults_after


def test_an_id_that_makes_vod_refuse_becomes_a_dead_letter_alone(store: Store) -> None:
    class RefusingVod(FakeVod):
        def batch_get_media_infos(self, media_ids: Any, reference_ids: Any = ()) -> dict[str, Any]:
            if "refused" in media_ids:
                self.calls.append(list(media_ids))
                raise VodRefusedError("InvalidParameter", code="InvalidParameter", status=400)
            return super().batch_get_media_infos(media_ids, reference_ids)

    vod = RefusingVod()
    good = [f"m{number:02}" for number in range(19)]
    vod.put(*(element(media_id) for media_id in good))
    notify(store, *good, "refused")

    report = run(store, vod)

    assert (report.saved, report.dead_lettered) == (19, 1)
    assert set(states(store)) == set(good)
    dead_letter = pending_requests(store)["refused"]
    assert (dead_letter.state, dead_letter.last_error) == ("dead", "InvalidParameter")


@pytest.mark.parametrize("error", [VodUnreadableError("nested too deep"), RecursionError("an internal error")])
def test_a_batch_with_an_unreadable_answer_is_halved_at_the_second_attempt(store: Store, error: Exception) -> None:
    class UnreadableVod(FakeVod):
        def batch_get_media_infos(self, media_ids: Any, reference_ids: Any = ()) -> dict[str, Any]:
            if "unreadable" in media_ids:
                raise error
            return super().batch_get_media_infos(media_ids, reference_ids)

    vod = UnreadableVod()
    vod.put(element("a"), element("b"), element("c"))
    notify(store, "a", "b", "c", "unreadable")

    first = run(store, vod)
    second = run(store, vod, now=NOON + 60 * SECOND)

    assert (first.saved, first.retried) == (0, 4)
    assert (second.saved, second.retried) == (3, 1)
    assert set(states(store)) == {"a", "b", "c"}
    assert pending_requests(store)["unreadable"].attempts == 2


class FailingVod(FakeVod):
    """Resets each call that names one of `failing_ids`."""

    failing_ids: frozenset[str] = frozenset()

    def batch_get_media_infos(self, media_ids: Any, reference_ids: Any = ()) -> dict[str, Any]:
        if self.failing_ids & set(media_ids):
            self.calls.append(list(media_ids))
            raise VodUnavailableError("connection reset")
        return super().batch_get_media_infos(media_ids, reference_ids)


def test_an_id_that_makes_vod_fail_is_alone_after_the_second_attempt(store: Store) -> None:
    vod, good = FailingVod(), [f"m{number:02}" for number in range(19)]
    vod.failing_ids = frozenset({"failing"})
    vod.put(*(element(media_id) for media_id in good))
    notify(store, *good[:7], "failing", *good[7:])

    first = run(store, vod)
    second = run(store, vod, now=NOON + 60 * SECOND)

    assert (first.saved, first.calls) == (0, 1)
    assert (second.saved, second.retried) == (19, 1)
    assert pending_requests(store)["failing"].attempts == 2


def test_an_outage_costs_three_calls_per_attempt(store: Store) -> None:
    vod, media_ids = FailingVod(), [f"m{number:02}" for number in range(20)]
    vod.failing_ids = frozenset(media_ids)
    notify(store, *media_ids)

    calls = [run(store, vod, now=NOON + 60 * number * SECOND).calls for number in (1, 2, 3)]

    assert calls == [1, 3, 3]
    assert {row.attempts for row in pending_requests(store).values()} == {3}


def test_an_answer_that_the_database_refuses_counts_as_an_attempt(
    store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch
) -> None:
    vod.put(element("a"))
    notify(store, "a")

    def refuse(*_: Any, **__: Any) -> None:
        raise sa.exc.DataError("INSERT", {}, Exception("value out of range"))

    monkeypatch.setattr(Catalogue, "save", refuse)

    report = run(store, vod)

    assert (report.saved, report.retried) == (0, 1)
    assert pending_requests(store)["a"].attempts == 1
    assert "out of range" in pending_requests(store)["a"].last_error


def test_an_asset_that_the_database_refuses_is_retried_alone(store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example an asset that is larger than the longest packet."""
    good = [f"m{number:02}" for number in range(19)]
    vod.put(*(element(media_id) for media_id in [*good, "huge"]))
    notify(store, *good[:7], "huge", *good[7:])
    save = Catalogue.save

    def refuse(catalogue: Catalogue, source: str, medias: Any, **options: Any) -> Any:
        if any(asset.media_id == "huge" for asset in medias):
            raise sa.exc.OperationalError("INSERT", {}, Exception("packet bigger than max_allowed_packet"))
        return save(catalogue, source, medias, **options)

    monkeypatch.setattr(Catalogue, "save", refuse)

    report = run(store, vod)

    assert (report.claimed, report.saved, report.retried, report.calls) == (20, 19, 1, 1)
    assert set(states(store)) == set(good)
    assert [(row.media_id, row.attempts) for row in pending_requests(store).values()] == [("huge", 1)]


@pytest.mark.parametrize("failing_method", [(Catalogue, "save"), (RateLimiter, "back_off")], ids=["store", "fetch"])
def test_an_internal_error_counts_as_an_attempt_and_shows_no_values(
    store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch, failing_method: tuple[type, str]
) -> None:
    vod.put(element("a"))
    vod.fail(*([VodThrottledError("Throttling.User")] if failing_method[0] is RateLimiter else []))
    notify(store, "a")

    def fail(*_: Any, **__: Any) -> None:
        raise UnicodeEncodeError("utf-8", "UPDATE secret", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(*failing_method, fail)

    report = run(store, vod)

    pending = pending_requests(store)["a"]
    assert report.retried == 1
    assert (pending.attempts, pending.last_error) == (1, "the database driver cannot send a value: utf-8 has no such character")


def test_after_a_database_outage_the_batch_is_claimed_when_its_lease_ends(
    store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify(store, "a")
    transact = store.transact
    vod.during_call = lambda: monkeypatch.setattr(
        store, "transact", lambda work: (_ for _ in ()).throw(StoreUnavailableError("gone"))
    )

    with pytest.raises(StoreUnavailableError):
        run(store, vod)

    monkeypatch.setattr(store, "transact", transact)
    assert claim(store, now=NOON + 30 * SECOND) is None
    assert claim(store, now=NOON + 62 * SECOND) is not None
