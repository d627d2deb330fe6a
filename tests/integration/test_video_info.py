"""GetVideoInfo: requested with the batch, called after it, and never lost; on each of the three databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, SETTINGS, element, notify, request, source_context
from tests.sync_harness import replace_method
from worker.core.errors import (
    StoreUnavailableError,
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
)
from worker.core.wait import Wait
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL
from worker.store.inbox.video_info_queue import RetryAt, VideoInfoQueue
from worker.store.rate_limit import RateLimiter, Slot
from worker.store.tables import media, video_info
from worker.sync.batch import sync_batch
from worker.sync.drain import drain, drain_video_infos
from worker.sync.source_context import SyncSettings
from worker.sync.video_info import VideoInfoResult, fetch_video_infos
from worker.vod.testing import FakeVod

WITH_VIDEO_INFO = replace(SETTINGS, video_info=True)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


def sync(store: Store, vod: FakeVod, *media_ids: str, settings: SyncSettings = WITH_VIDEO_INFO) -> None:
    """Fetch and store these assets. GetVideoInfo is not called."""
    vod.put(*map(element, media_ids))
    notify(store, *media_ids)
    sync_batch(store, source_context(vod, settings), now=NOON + SECOND)
    vod.calls.clear()


def fetch(store: Store, vod: FakeVod, *, now: datetime = NOON + 2 * SECOND) -> VideoInfoResult:
    """Call GetVideoInfo for one claim, without a rate limit."""
    store.transact(lambda connection: RateLimiter(connection).retry_now())
    return fetch_video_infos(store, source_context(vod, WITH_VIDEO_INFO), now=now)


def pending(store: Store) -> dict[str, Any]:
    """Return the rows whose GetVideoInfo call is pending, by id."""
    with store.reading() as connection:
        return {row.media_id: row for row in connection.execute(select(video_info)) if row.available_at is not None}


def stored_info(store: Store) -> dict[str, tuple[str | None, str | None]]:
    """Return audit status and region of every stored asset."""
    with store.reading() as connection:
        return {row.media_id: (row.audit_status, row.region_id) for row in connection.execute(select(media))}


def test_a_batch_requests_get_video_info_for_its_assets(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"), element("b"))
    notify(store, "a", "b", "unknown", now=store.now())
    context = source_context(vod, WITH_VIDEO_INFO)

    drain(store, {"default": context}, now=store.now, stopping=threading.Event())
    worker_was_notified = context.video_info_due.is_set()
    info_after_batch = stored_info(store)
    drain_video_infos(store, context, now=store.now, stopping=threading.Event())

    assert worker_was_notified
    assert set(info_after_batch.values()) == {(None, None)}
    assert stored_info(store) == {"a": ("Normal", "cn-shanghai"), "b": ("Normal", "cn-shanghai"), "unknown": (None, None)}
    assert sorted(vod.calls[1:]) == [["a"], ["b"]]
    assert pending(store) == {}


def test_nothing_is_pending_if_video_info_is_off(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a", settings=SETTINGS)

    assert pending(store) == {}


@pytest.mark.parametrize(
    "form",
    [
        {"Size": "8", "Duration": "61.02", "CateId": "12", "Snapshots": {"Snapshot": '["http://i/1.jpg?auth_key=1-0-0-aa"]'}},
        {"Size": 8, "Duration": 61.02, "CateId": 12, "Snapshots": {"Snapshot": ["http://i/1.jpg?auth_key=1-0-0-aa"]}},
    ],
)
def test_both_forms_of_the_answer_are_stored_whole_and_without_signatures(store: Store, vod: FakeVod, form: dict[str, Any]) -> None:
    sync(store, vod, "a")
    video = {"VideoId": "a", "AuditStatus": "Blocked\n", "RegionId": "cn-shanghai", "CustomMediaInfo": "ours", **form}
    replace_method(vod, "get_video_info", lambda _media_id: {"RequestId": "R", "Video": video})

    fetch(store, vod)

    with store.reading() as connection:
        row = connection.execute(select(video_info)).one()
    assert stored_info(store) == {"a": ("Blocked", "cn-shanghai")}
    assert (row.answer["CustomMediaInfo"], row.answer["Size"], row.unreadable) == ("ours", form["Size"], [])
    assert "auth_key" not in str(row.answer)


def test_a_review_that_does_not_change_the_batch_answer_is_fetched_again(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a")
    fetch(store, vod)
    changed_at = _changed_at(store)
    notify(store, "a", event="CreateAuditComplete", now=NOON + MINUTE)

    sync_batch(store, source_context(vod, WITH_VIDEO_INFO), now=NOON + 2 * MINUTE)
    again = fetch(store, vod, now=NOON + 3 * MINUTE)

    assert again.saved == 1
    assert _changed_at(store) == changed_at


def _changed_at(store: Store) -> Any:
    with store.reading() as connection:
        return connection.execute(select(media.c.changed_at)).scalar_one()


def test_the_claim_of_a_killed_worker_is_fetched_after_its_lease(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a")
    store.transact(lambda connection: VideoInfoQueue(connection).claim("default", limit=20, now=NOON + SECOND, lease=MINUTE))

    early = fetch(store, vod, now=NOON + 30 * SECOND)
    late = fetch(store, vod, now=NOON + 62 * SECOND)

    assert (early.claimed, late.saved) == (0, 1)


def test_live_and_manual_requests_are_fetched_before_a_backfill(store: Store, vod: FakeVod) -> None:
    library = [f"m{number:02}" for number in range(40)]
    vod.put(*map(element, [*library, "manual", "live"]))
    for priority, media_ids in ((BACKFILL, library), (MANUAL, ["manual"]), (LIVE, ["live"])):
        request(store, *media_ids, priority=priority)
        while sync_batch(store, source_context(vod, WITH_VIDEO_INFO), now=NOON + SECOND).claimed:
            store.transact(lambda connection: RateLimiter(connection).retry_now())
    vod.calls.clear()

    fetch(store, vod)

    called_ids = [media_id for (media_id,) in vod.calls]
    assert {"live", "manual"} < set(called_ids)
    assert len(called_ids) == 20


def test_a_pending_fetch_keeps_its_higher_priority(store: Store) -> None:
    def enqueue(priority: int) -> None:
        store.transact(lambda connection: VideoInfoQueue(connection).enqueue("default", {"a": priority}, now=NOON))

    enqueue(LIVE)
    enqueue(BACKFILL)
    after_backfill = pending(store)["a"].priority
    claim = store.transact(lambda connection: VideoInfoQueue(connection).claim("default", limit=20, now=NOON, lease=MINUTE))
    assert claim is not None
    store.transact(lambda connection: VideoInfoQueue(connection).retry(claim, {"a": RetryAt(None)}))
    enqueue(BACKFILL)
    after_completion = pending(store)["a"].priority
    enqueue(MANUAL)

    assert (after_backfill, after_completion, pending(store)["a"].priority) == (LIVE, BACKFILL, MANUAL)


def test_an_answer_older_than_the_last_request_is_dropped(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a")

    def request_again() -> None:
        vod.during_call = lambda: None
        store.transact(lambda connection: VideoInfoQueue(connection).enqueue("default", {"a": LIVE}, now=NOON + 3 * SECOND))

    vod.during_call = request_again

    outdated = fetch(store, vod)
    still_pending = list(pending(store))
    current = fetch(store, vod, now=NOON + 4 * SECOND)

    assert (outdated.saved, still_pending, current.saved) == (0, ["a"], 1)
    assert pending(store) == {}


def test_pauses_grow_during_an_outage_until_the_fetch_is_given_up(
    store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(store, vod, "a")
    # The calls take no time.
    monkeypatch.setattr("worker.sync.video_info.time", SimpleNamespace(monotonic=lambda: 0.0))
    pauses = []
    at = NOON + 2 * SECOND
    for _ in range(12):
        vod.fail(VodUnavailableError("503"))
        fetch(store, vod, now=at)
        pauses.append((pending(store)["a"].available_at - at).total_seconds())
        at = pending(store)["a"].available_at
    vod.fail(VodUnavailableError("503"))
    last = fetch(store, vod, now=NOON + timedelta(days=4))

    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert last.given_up == 1
    assert pending(store) == {}


def test_an_asset_that_only_the_batch_knows_is_fetched_again(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a")
    known_to_the_batch = vod.media.pop("a")
    early = fetch(store, vod)
    again_at = pending(store)["a"].available_at
    vod.put(known_to_the_batch)

    late = fetch(store, vod, now=again_at)

    assert (early.retried, late.saved) == (1, 1)


def test_an_unknown_id_is_given_up_after_its_retries_and_its_rows_stay(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a", "b")
    vod.media.pop("a")

    result, seconds = fetch(store, vod), []
    while "a" in pending(store):
        seconds.append((pending(store)["a"].available_at - NOON - SECOND).total_seconds())
        last = fetch(store, vod, now=pending(store)["a"].available_at)

    assert (result.saved, result.retried, last.given_up) == (1, 1, 1)
    # A slow call may skip one of these.
    assert seconds == sorted({2, 7, 22, 82, 382} & set(seconds))
    assert seconds[-1] == 382
    assert stored_info(store) == {"a": (None, None), "b": ("Normal", "cn-shanghai")}


def test_an_unknown_id_of_a_backfill_is_given_up_at_once(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))
    request(store, "a", priority=BACKFILL)
    sync_batch(store, source_context(vod, WITH_VIDEO_INFO), now=NOON + SECOND)
    vod.media.clear()

    assert fetch(store, vod).given_up == 1


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (VodThrottledError("Throttling.User", retry_after=30), 30),
        (VodCredentialsError("Forbidden.RAM"), 60),
    ],
)
def test_an_account_error_backs_off_only_this_operation_and_counts_no_attempt(
    store: Store, vod: FakeVod, error: VodError, pause: float
) -> None:
    called_ids: list[str] = []

    def refuse(media_id: str) -> dict[str, Any]:
        called_ids.append(media_id)
        raise error

    replace_method(vod, "get_video_info", refuse)
    sync(store, vod, *(f"m{number:02}" for number in range(20)))

    fetch(store, vod)
    during_back_off = fetch_video_infos(store, source_context(vod, WITH_VIDEO_INFO), now=NOON + MINUTE)
    request(store, "other", now=NOON)
    batch = sync_batch(store, source_context(vod, WITH_VIDEO_INFO), now=NOON + 4 * SECOND)

    with store.reading() as connection:
        back_offs = RateLimiter(connection).back_offs()
    assert [(row.operation, row.fault) for row in back_offs] == [("GetVideoInfo", str(error))]
    # The calls that had started when the first was refused.
    assert 1 <= len(called_ids) <= 4
    assert during_back_off.wait is not None
    assert pause - 5 < during_back_off.wait.total_seconds() <= pause
    assert {row.attempts for row in pending(store).values()} == {0}
    assert len(pending(store)) == 20
    assert (batch.claimed, batch.calls) == (1, 1)


def test_an_answer_ends_the_back_off(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a")
    vod.fail(VodCredentialsError("Forbidden.RAM"))
    fetch(store, vod)

    fetch(store, vod)

    with store.reading() as connection:
        assert RateLimiter(connection).back_offs() == []
    assert stored_info(store) == {"a": ("Normal", "cn-shanghai")}


def test_an_unreadable_answer_is_retried(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a", "b", "c")
    answers: dict[str, Any] = {"a": {"Video": {"VideoId": "other"}}, "b": {"Video": None}, "c": {"Video": {"VideoId": "c"}}}
    replace_method(vod, "get_video_info", lambda media_id: answers[media_id])

    result = fetch(store, vod)

    assert (result.saved, result.retried) == (1, 2)
    assert {media_id: row.attempts for media_id, row in pending(store).items()} == {"a": 1, "b": 1}


def test_after_a_database_outage_the_claim_is_fetched_when_its_lease_ends(
    store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(store, vod, "a")
    transact = store.transact
    vod.during_call = lambda: monkeypatch.setattr(
        store, "transact", lambda work: (_ for _ in ()).throw(StoreUnavailableError("gone"))
    )

    with pytest.raises(StoreUnavailableError):
        fetch(store, vod)

    monkeypatch.setattr(store, "transact", transact)
    vod.during_call = lambda: None
    assert fetch(store, vod, now=NOON + 63 * SECOND).saved == 1


def test_a_stopping_worker_returns_what_it_did_not_fetch(store: Store, vod: FakeVod) -> None:
    sync(store, vod, *(f"m{number:02}" for number in range(20)))
    stopping = threading.Event()
    vod.during_call = stopping.set

    fetch_video_infos(store, source_context(vod, WITH_VIDEO_INFO), now=NOON + 2 * SECOND, stopping=stopping)

    assert len(vod.calls) <= 4
    assert len(pending(store)) == 20 - len(vod.calls)
    assert {row.available_at for row in pending(store).values()} == {NOON + 2 * SECOND}


def test_several_workers_share_the_rate_limit_of_get_video_info(store: Store) -> None:
    with store.engine.begin() as connection:
        first = RateLimiter(connection).take("default", "GetVideoInfo", per_second=100, calls=20)
        second = RateLimiter(connection).take("default", "GetVideoInfo", per_second=100, calls=20)

    assert isinstance(first, Slot)
    assert isinstance(second, Wait)
    assert 0.1 < second.duration.total_seconds() < 0.2


def test_a_temporary_refusal_is_retried(store: Store, vod: FakeVod) -> None:
    sync(store, vod, "a")
    vod.fail(VodRefusedError("not now", code="Forbidden.IllegalStatus", status=403))

    assert fetch(store, vod).retried == 1
