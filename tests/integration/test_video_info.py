"""The single-video operation: owed with the batch, asked after it, and never lost; on each of the three databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, SETTINGS, element, notify, request, source_context
from worker import runtime
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

KEEPING = replace(SETTINGS, video_info=True)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


def synced(store: Store, vod: FakeVod, *media_ids: str, settings: SyncSettings = KEEPING) -> None:
    """These are stored, and nobody asked the single-video operation yet."""
    vod.put(*map(element, media_ids))
    notify(store, *media_ids)
    sync_batch(store, source_context(vod, settings), now=NOON + SECOND)
    vod.calls.clear()


def look(store: Store, vod: FakeVod, *, now: datetime = NOON + 2 * SECOND) -> VideoInfoResult:
    """One claim's look-ups, without the pace of the quota."""
    store.transact(lambda connection: RateLimiter(connection).retry_now())
    return fetch_video_infos(store, source_context(vod, KEEPING), now=now)


def owed(store: Store) -> dict[str, Any]:
    with store.reading() as connection:
        return {row.media_id: row for row in connection.execute(select(video_info)) if row.available_at is not None}


def known(store: Store) -> dict[str, tuple[str | None, str | None]]:
    with store.reading() as connection:
        return {row.media_id: (row.audit_status, row.region_id) for row in connection.execute(select(media))}


def test_a_batch_owes_what_only_the_single_video_operation_knows(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"), element("b"))
    notify(store, "a", "b", "unknown", now=runtime.now())
    lane = source_context(vod, KEEPING)

    drain(store, {"default": lane}, now=runtime.now, stopping=threading.Event())
    told = lane.video_info_due.is_set()
    after_the_batch = known(store)
    drain_video_infos(store, lane, now=runtime.now, stopping=threading.Event())

    assert told
    assert set(after_the_batch.values()) == {(None, None)}
    assert known(store) == {"a": ("Normal", "cn-shanghai"), "b": ("Normal", "cn-shanghai"), "unknown": (None, None)}
    assert sorted(vod.calls[1:]) == [["a"], ["b"]]
    assert owed(store) == {}


def test_nothing_is_owed_where_it_is_off(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a", settings=SETTINGS)

    assert owed(store) == {}


@pytest.mark.parametrize(
    "shape",
    [
        {"Size": "8", "Duration": "61.02", "CateId": "12", "Snapshots": {"Snapshot": '["http://i/1.jpg?auth_key=1-0-0-aa"]'}},
        {"Size": 8, "Duration": 61.02, "CateId": 12, "Snapshots": {"Snapshot": ["http://i/1.jpg?auth_key=1-0-0-aa"]}},
    ],
)
def test_both_shapes_of_the_answer_are_kept_whole_and_without_signatures(store: Store, vod: FakeVod, shape: dict[str, Any]) -> None:
    synced(store, vod, "a")
    said = {"VideoId": "a", "AuditStatus": "Blocked\n", "RegionId": "cn-shanghai", "CustomMediaInfo": "ours", **shape}
    vod.get_video_info = lambda media_id: {"RequestId": "R", "Video": said}  # type: ignore[method-assign, misc]

    look(store, vod)

    with store.reading() as connection:
        row = connection.execute(select(video_info)).one()
    assert known(store) == {"a": ("Blocked", "cn-shanghai")}
    assert (row.answer["CustomMediaInfo"], row.answer["Size"], row.unreadable) == ("ours", shape["Size"], [])
    assert "auth_key" not in str(row.answer)


def test_a_review_that_changes_nothing_in_the_batch_is_looked_up_again(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a")
    look(store, vod)
    changed_at = _changed_at(store)
    notify(store, "a", event="CreateAuditComplete", now=NOON + MINUTE)

    sync_batch(store, source_context(vod, KEEPING), now=NOON + 2 * MINUTE)
    again = look(store, vod, now=NOON + 3 * MINUTE)

    assert again.saved == 1
    assert _changed_at(store) == changed_at


def _changed_at(store: Store) -> Any:
    with store.reading() as connection:
        return connection.execute(select(media.c.changed_at)).scalar_one()


def test_what_a_killed_worker_had_claimed_is_asked_again_once_the_lease_is_over(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a")
    store.transact(lambda connection: VideoInfoQueue(connection).claim("default", limit=20, now=NOON + SECOND, lease=MINUTE))

    early = look(store, vod, now=NOON + 30 * SECOND)
    late = look(store, vod, now=NOON + 62 * SECOND)

    assert (early.claimed, late.saved) == (0, 1)


def test_what_is_urgent_is_looked_up_before_a_whole_backfill(store: Store, vod: FakeVod) -> None:
    library = [f"m{number:02}" for number in range(40)]
    vod.put(*map(element, [*library, "asked for", "live"]))
    for priority, media_ids in ((BACKFILL, library), (MANUAL, ["asked for"]), (LIVE, ["live"])):
        request(store, *media_ids, priority=priority)
        while sync_batch(store, source_context(vod, KEEPING), now=NOON + SECOND).claimed:
            store.transact(lambda connection: RateLimiter(connection).retry_now())
    vod.calls.clear()

    look(store, vod)

    asked = [media_id for (media_id,) in vod.calls]
    assert {"live", "asked for"} < set(asked)
    assert len(asked) == 20


def test_what_is_owed_stays_in_the_better_lane(store: Store) -> None:
    def enqueue(priority: int) -> None:
        store.transact(lambda connection: VideoInfoQueue(connection).enqueue("default", {"a": priority}, now=NOON))

    enqueue(LIVE)
    enqueue(BACKFILL)
    less_urgent = owed(store)["a"].priority
    claim = store.transact(lambda connection: VideoInfoQueue(connection).claim("default", limit=20, now=NOON, lease=MINUTE))
    assert claim is not None
    store.transact(lambda connection: VideoInfoQueue(connection).retry(claim, {"a": RetryAt(None)}))
    enqueue(BACKFILL)
    paid_meanwhile = owed(store)["a"].priority
    enqueue(MANUAL)

    assert (less_urgent, paid_meanwhile, owed(store)["a"].priority) == (LIVE, BACKFILL, MANUAL)


def test_an_answer_from_before_the_last_request_is_dropped(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a")

    def asked_again() -> None:
        vod.during_call = lambda: None
        store.transact(lambda connection: VideoInfoQueue(connection).enqueue("default", {"a": LIVE}, now=NOON + 3 * SECOND))

    vod.during_call = asked_again

    overtaken = look(store, vod)
    still_owed = list(owed(store))
    current = look(store, vod, now=NOON + 4 * SECOND)

    assert (overtaken.saved, still_owed, current.saved) == (0, ["a"], 1)
    assert owed(store) == {}


def test_an_outage_makes_the_pauses_longer_and_ends_after_days(store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch) -> None:
    synced(store, vod, "a")
    # The calls themselves take no time.
    monkeypatch.setattr("worker.sync.video_info.time", SimpleNamespace(monotonic=lambda: 0.0))
    pauses = []
    at = NOON + 2 * SECOND
    for _ in range(12):
        vod.fail(VodUnavailableError("503"))
        look(store, vod, now=at)
        pauses.append((owed(store)["a"].available_at - at).total_seconds())
        at = owed(store)["a"].available_at
    vod.fail(VodUnavailableError("503"))
    last = look(store, vod, now=NOON + timedelta(days=4))

    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert last.given_up == 1
    assert owed(store) == {}


def test_a_medium_that_only_the_batch_knows_yet_is_looked_up_again(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a")
    known_to_the_batch = vod.media.pop("a")
    early = look(store, vod)
    again_at = owed(store)["a"].available_at
    vod.put(known_to_the_batch)

    late = look(store, vod, now=again_at)

    assert (early.retried, late.saved) == (1, 1)


def test_an_unknown_id_is_given_up_once_the_patience_is_over_and_its_rows_stay(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a", "b")
    vod.media.pop("a")

    looked, asked_at = look(store, vod), []
    while "a" in owed(store):
        asked_at.append((owed(store)["a"].available_at - NOON - SECOND).total_seconds())
        last = look(store, vod, now=owed(store)["a"].available_at)

    assert (looked.saved, looked.retried, last.given_up) == (1, 1, 1)
    # A look that takes long may pass over one of these.
    assert asked_at == sorted({2, 7, 22, 82, 382} & set(asked_at))
    assert asked_at[-1] == 382
    assert known(store) == {"a": (None, None), "b": ("Normal", "cn-shanghai")}


def test_what_a_backfill_asked_for_is_no_news(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))
    request(store, "a", priority=BACKFILL)
    sync_batch(store, source_context(vod, KEEPING), now=NOON + SECOND)
    vod.media.clear()

    assert look(store, vod).given_up == 1


@pytest.mark.parametrize(
    ("fault", "pause"),
    [
        (VodThrottledError("Throttling.User", retry_after=30), 30),
        (VodCredentialsError("Forbidden.RAM"), 60),
    ],
)
def test_what_concerns_the_account_holds_back_this_operation_alone_and_counts_as_no_attempt(
    store: Store, vod: FakeVod, fault: VodError, pause: float
) -> None:
    asked: list[str] = []

    def refuse(media_id: str) -> dict[str, Any]:
        asked.append(media_id)
        raise fault

    vod.get_video_info = refuse  # type: ignore[method-assign]
    synced(store, vod, *(f"m{number:02}" for number in range(20)))

    look(store, vod)
    waiting = fetch_video_infos(store, source_context(vod, KEEPING), now=NOON + MINUTE)
    request(store, "other", now=NOON)
    batch = sync_batch(store, source_context(vod, KEEPING), now=NOON + 4 * SECOND)

    with store.reading() as connection:
        held = RateLimiter(connection).back_offs()
    assert [(each.operation, each.fault) for each in held] == [("GetVideoInfo", str(fault))]
    # Those that were under way when the first was refused.
    assert 1 <= len(asked) <= 4
    assert waiting.wait is not None
    assert pause - 5 < waiting.wait.total_seconds() <= pause
    assert {row.attempts for row in owed(store).values()} == {0}
    assert len(owed(store)) == 20
    assert (batch.claimed, batch.calls) == (1, 1)


def test_an_answer_lets_calls_through_again(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a")
    vod.fail(VodCredentialsError("Forbidden.RAM"))
    look(store, vod)

    look(store, vod)

    with store.reading() as connection:
        assert RateLimiter(connection).back_offs() == []
    assert known(store) == {"a": ("Normal", "cn-shanghai")}


def test_what_cannot_be_read_is_asked_again(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a", "b", "c")
    answers: dict[str, Any] = {"a": {"Video": {"VideoId": "other"}}, "b": {"Video": None}, "c": {"Video": {"VideoId": "c"}}}
    vod.get_video_info = lambda media_id: answers[media_id]  # type: ignore[method-assign]

    looked = look(store, vod)

    assert (looked.saved, looked.retried) == (1, 2)
    assert {media_id: row.attempts for media_id, row in owed(store).items()} == {"a": 1, "b": 1}


def test_a_database_that_goes_away_meanwhile_leaves_the_look_up_to_the_lease(
    store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced(store, vod, "a")
    transact = store.transact
    vod.during_call = lambda: monkeypatch.setattr(
        store, "transact", lambda work: (_ for _ in ()).throw(StoreUnavailableError("gone"))
    )

    with pytest.raises(StoreUnavailableError):
        look(store, vod)

    monkeypatch.setattr(store, "transact", transact)
    vod.during_call = lambda: None
    assert look(store, vod, now=NOON + 63 * SECOND).saved == 1


def test_a_worker_that_stops_gives_back_what_it_did_not_ask(store: Store, vod: FakeVod) -> None:
    synced(store, vod, *(f"m{number:02}" for number in range(20)))
    stopping = threading.Event()
    vod.during_call = stopping.set

    fetch_video_infos(store, source_context(vod, KEEPING), now=NOON + 2 * SECOND, stopping=stopping)

    assert len(vod.calls) <= 4
    assert len(owed(store)) == 20 - len(vod.calls)
    assert {row.available_at for row in owed(store).values()} == {NOON + 2 * SECOND}


def test_look_ups_of_several_workers_keep_the_pace_together(store: Store) -> None:
    with store.engine.begin() as connection:
        first = RateLimiter(connection).take("default", "GetVideoInfo", per_second=100, calls=20)
        second = RateLimiter(connection).take("default", "GetVideoInfo", per_second=100, calls=20)

    assert isinstance(first, Slot)
    assert isinstance(second, Wait)
    assert 0.1 < second.duration.total_seconds() < 0.2


def test_a_refusal_for_the_moment_is_asked_again(store: Store, vod: FakeVod) -> None:
    synced(store, vod, "a")
    vod.fail(VodRefusedError("not now", code="Forbidden.IllegalStatus", status=403))

    assert look(store, vod).retried == 1
