"""A batch with reference ids that VOD refuses because it finds no video, on each of the three databases."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, element, request
from worker.core.errors import VodRefusedError
from worker.core.ids import reference_key
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL
from worker.store.tables import media, sync_request
from worker.sync.batch import BatchResult, sync_batch
from worker.sync.retry_policy import Policy
from worker.vod.testing import FakeVod

POLICY = Policy(calls_per_second=1000, jitter=lambda: 1.0)

REFERENCE = reference_key("customer-7")


@pytest.fixture
def vod() -> FakeVod:
    """VOD, which answers the next call with "not found"."""
    vod = FakeVod()
    vod.fail(VodRefusedError("the video does not exist", code="InvalidVideo.NotFound", status=404))
    return vod


def run(store: Store, vod: FakeVod, *, now: datetime = NOON + SECOND) -> BatchResult:
    return sync_batch(store, vod, now=now, policy=POLICY)


def states(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return dict(map(tuple, connection.execute(select(media.c.media_id, media.c.state))))


def requests(store: Store) -> dict[str, str]:
    """The state of each sync request that is left."""
    with store.reading() as connection:
        return dict(map(tuple, connection.execute(select(sync_request.c.media_id, sync_request.c.state))))


def test_media_in_a_batch_with_an_unknown_reference_id_are_fetched_and_not_missing(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))
    request(store, "a", REFERENCE, priority=BACKFILL)

    report = run(store, vod)

    assert sorted(vod.calls) == [["a"], ["a", "customer-7"], ["customer-7"]]
    assert states(store) == {"a": "ok"}
    assert requests(store) == {REFERENCE: "dead"}
    assert (report.saved, report.missing, report.dead) == (1, 0, 1)


def test_a_single_unknown_reference_id_becomes_a_dead_letter(store: Store, vod: FakeVod) -> None:
    request(store, REFERENCE, priority=BACKFILL)

    report = run(store, vod)

    assert vod.calls == [["customer-7"]]
    assert requests(store) == {REFERENCE: "dead"}
    assert (report.missing, report.dead) == (0, 1)
