"""One batch from claim to completion, on each of the three databases, with a fake VOD."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, SETTINGS, announced, element, notify, request, source_context
from tests.fake_time import FakeTime
from worker.core.errors import VodRefusedError
from worker.core.ids import reference_key
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL, LIVE
from worker.store.installation_health import installation_health
from worker.store.tables import media, quota, sync_request
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


def test_repeated_notifications_cost_one_fetch(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"), element("b"))
    notify(store, "a", "a", "b")

    report = run(store, vod)

    assert vod.calls == [["a", "b"]]
    assert (report.claimed, report.saved, report.missing) == (2, 2, 0)
    assert pending_requests(store) == {}


def test_every_id_is_accounted_for(store: Store, vod: FakeVod) -> None:
    vod.put(element("known"), element("secret"), element("silent"))
    vod.forbidden, vod.omitted = {"secret"}, {"silent"}
    notify(store, "known", "unknown", "secret", "silent")

    report = run(store, vod)

    assert states(store) == {"known": "ok", "unknown": "missing", "secret": "forbidden"}
    assert (report.saved, report.missing, report.forbidden, report.retried) == (1, 1, 1, 2)
    assert sorted(pending_requests(store)) == ["silent", "unknown"]
    assert "does not mention" in pending_requests(store)["silent"].last_error


def test_a_notification_during_the_fetch_leads_to_another_fetch(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))
    notify(store, "a")

    def notify_again() -> None:
        notify(store, "a", event="TranscodeComplete")

    vod.during_call = notify_again

    run(store, vod)
    vod.during_call = lambda: None
    run(store, vod, now=NOON + 2 * SECOND)

    assert vod.calls == [["a"], ["a"]]
    assert pending_requests(store) == {}


def test_requests_of_a_source_that_is_not_configured_are_a_problem(store: Store) -> None:
    request(store, "a", "b", source="beta")
    request(store, "c", now=NOON + 60 * SECOND)

    with store.reading() as connection:
        health = installation_health(connection, now=NOON + 61 * SECOND, sources={"default"})

    (problem,) = health.problems
    assert "2 sync requests belong to source beta" in problem
    assert (health.backlog.due, health.served.due) == (3, 1)


def test_a_404_for_the_whole_batch_means_that_all_are_missing(store: Store, vod: FakeVod) -> None:
    notify(store, "a", "b")
    vod.fail(VodRefusedError("not found", code="InvalidVideo.NotFound", status=404))

    report = run(store, vod)

    assert report.missing == 2
    assert states(store) == {"a": "missing", "b": "missing"}


def test_reference_ids_are_resolved_to_their_assets(store: Store, vod: FakeVod) -> None:
    vod.put(element("a", ReferenceId="ref-000001"))
    request(store, reference_key("ref-000001"), reference_key("ref-unknown"))

    report = run(store, vod)

    assert states(store) == {"a": "ok"}
    assert (report.saved, report.dead_lettered) == (1, 1)
    assert list(pending_requests(store)) == [reference_key("ref-unknown")]


def test_an_asset_requested_by_both_ids_is_stored_once(store: Store, vod: FakeVod) -> None:
    vod.put(element("a", ReferenceId="ref-000001"))
    request(store, "a", reference_key("ref-000001"))

    run(store, vod)

    assert states(store) == {"a": "ok"}
    assert pending_requests(store) == {}


def test_a_batch_is_filled_with_backfill_requests(store: Store, vod: FakeVod) -> None:
    request(store, *(f"b{number:02}" for number in range(30)), priority=BACKFILL, now=NOON - SECOND)
    request(store, "live", priority=LIVE)

    run(store, vod)

    assert len(vod.calls[0]) == 20
    assert vod.calls[0][0] == "live"


def test_no_transaction_is_open_during_a_call_of_vod(store: Store, vod: FakeVod) -> None:
    notify(store, "a")

    def notify_another() -> None:
        notify(store, "b")

    vod.during_call = notify_another

    run(store, vod)

    assert "b" in pending_requests(store)


def test_a_worker_that_lost_its_lease_overwrites_nothing(store: Store, fake_time: FakeTime) -> None:
    slow, fast = FakeVod(), FakeVod()
    slow.put(element("a", Title="old"))
    fast.put(element("a", Title="new"))
    notify(store, "a")

    def run_faster_worker() -> None:
        fake_time.sleep(0.05)
        sync_batch(store, source_context(fast), now=NOON + 120 * SECOND)

    slow.during_call = run_faster_worker
    run(store, slow)

    with store.reading() as connection:
        title = connection.execute(select(media.c.title)).scalar_one()
    assert title == "new"
    assert pending_requests(store) == {}


@pytest.mark.parametrize(
    ("waiting", "signing", "answering", "is_warm", "is_late"),
    [(0.3, 0, 0, True, True), (0, 0.3, 0, True, True), (0, 0, 1, True, False), (0, 0, 0.3, False, True)],
)
def test_a_call_that_starts_late_counts_from_its_start(
    store: Store,
    vod: FakeVod,
    fake_time: FakeTime,
    waiting: float,
    signing: float,
    answering: float,
    is_warm: bool,
    is_late: bool,
) -> None:
    """The parameters are seconds before and during the call. A client's first call counts when it ends: it loads certificates."""

    def call() -> None:
        fake_time.sleep(signing)
        vod.sent_at = fake_time.monotonic()
        fake_time.sleep(answering)

    vod.is_warm = is_warm
    vod.during_call = call
    request(store, "a")

    sync_batch(store, source_context(vod), now=NOON + SECOND, sleep=lambda _: fake_time.sleep(waiting))

    with store.reading() as connection:
        row = connection.execute(select(quota.c.next_at_us, quota.c.started_us)).one()
    planned = row.next_at_us - 1_000_000 / SETTINGS.calls_per_second
    seconds_late = (row.started_us[-1] - planned) / 1_000_000
    assert seconds_late == pytest.approx(waiting + signing + answering if is_late else 0)


def test_a_slot_that_has_expired_is_not_used(store: Store, vod: FakeVod, fake_time: FakeTime) -> None:
    vod.put(element("a"))
    request(store, "a")
    pauses = iter([0.8])

    sync_batch(store, source_context(vod), now=NOON + SECOND, sleep=lambda _: fake_time.sleep(next(pauses, 0)))

    with store.reading() as connection:
        assert len(connection.execute(select(quota.c.started_us)).scalar_one()) == 2
    assert states(store) == {"a": "ok"}


def test_an_announced_asset_is_stored_before_its_analysis(store: Store, vod: FakeVod) -> None:
    vod.put(announced("a"))
    notify(store, "a", event="FileUploadComplete")

    run(store, vod)

    assert states(store) == {"a": "ok"}
