"""What a batch decides in the rarer cases: a mixed result of a probe, a revived asset, a slow database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import select

from tests.builders import NOON, SECOND, body, element, notify, request, source_context
from worker.core import events
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodThrottledError
from worker.core.media import Media
from worker.store import Store
from worker.store.catalogue.assets import Catalogue
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.store.tables import media, sync_request
from worker.sync import batch
from worker.sync.batch import BatchResult, sync_batch
from worker.sync.receive import delivery, receive
from worker.vod.testing import FakeVod

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


def sync(store: Store, vod: FakeVod, *, now: datetime = NOON + SECOND) -> BatchResult:
    return sync_batch(store, source_context(vod), now=now, sleep=lambda _seconds: None)


def faults(store: Store) -> list[str]:
    with store.reading() as connection:
        return [row.fault for row in RateLimiter(connection).back_offs()]


def states(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {row.media_id: row.state for row in connection.execute(select(media.c.media_id, media.c.state))}


def attempts(store: Store) -> dict[str, int]:
    """Attempts of the requests that are still stored."""
    with store.reading() as connection:
        rows = connection.execute(select(sync_request.c.media_id, sync_request.c.attempts))
        return {row.media_id: row.attempts for row in rows}


@pytest.mark.parametrize("error", [VodThrottledError("Throttling.User"), VodCredentialsError("Forbidden.RAM")], ids=str)
def test_a_back_off_that_starts_during_a_probe_stays_although_another_call_succeeded(
    store: Store, vod: FakeVod, error: VodError
) -> None:
    vod.put(element("a"), element("b"))
    request(store, "a", "b")
    store.transact(
        lambda connection: RateLimiter(connection).back_off("default", BATCH_GET_MEDIA_INFOS, timedelta(0), fault="Throttling.Api")
    )
    results: list[VodError | None] = [VodRefusedError("one of them", code="InvalidParameter", status=400), None, error]

    def fail_next() -> None:
        result = results.pop(0)
        if result is not None:
            vod.fail(result)

    vod.during_call = fail_next

    report = sync(store, vod)

    assert vod.calls == [["a", "b"], ["a"], ["b"]]
    assert (report.saved, report.retried, report.dead_lettered) == (1, 1, 0)
    assert faults(store) == [str(error)]


def test_a_deleted_asset_that_an_older_notification_shows_is_ok_at_once(store: Store, vod: FakeVod) -> None:
    """The notification waited in the spool and is older than the deletion, which an answer has confirmed."""
    notify(store, "a", event="DeleteMediaComplete", now=NOON + 5 * SECOND, MediaType="video", DeleteType="all", MediaId="a")
    sync(store, vod, now=NOON + 6 * SECOND)
    confirmed = states(store)
    spooled = delivery("default", events.parse(body("a", "TranscodeComplete")), received_at=NOON)
    receive(store, [spooled], now=NOON + 10 * SECOND)
    vod.put(element("a"))

    report = sync(store, vod, now=NOON + 11 * SECOND)

    assert confirmed == {"a": "deleted"}
    assert states(store) == {"a": "ok"}
    assert (report.saved, report.retried) == (1, 0)
    assert attempts(store) == {}


class Clock:
    """Replaces the `time` module in `batch`; a test sets the time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.mark.parametrize(
    ("seconds", "saves", "attempts_left"),
    [(5, [["a", "b"], ["a"], ["b"]], {"b": 1}), (5.5, [["a", "b"]], {"a": 1, "b": 1})],
    ids=["at the limit", "above it"],
)
def test_a_batch_that_the_database_refuses_slowly_is_not_halved(
    store: Store,
    vod: FakeVod,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    saves: list[list[str]],
    attempts_left: dict[str, int],
) -> None:
    """Each half could take as long again, and the lease would end before the last one."""
    clock, saved_groups, save = Clock(), [], Catalogue.save
    vod.put(element("a"), element("b"))
    request(store, "a", "b")
    monkeypatch.setattr(batch, "time", clock)

    def refuse_b(catalogue: Catalogue, source: str, medias: Any, **options: Any) -> Any:
        assets: list[Media] = list(medias)
        saved_groups.append(sorted(asset.media_id for asset in assets))
        if any(asset.media_id == "b" for asset in assets):
            clock.seconds += seconds
            raise sa.exc.OperationalError("INSERT", {}, Exception("packet bigger than max_allowed_packet"))
        return save(catalogue, source, assets, **options)

    monkeypatch.setattr(Catalogue, "save", refuse_b)

    report = sync(store, vod)

    assert saved_groups == saves
    assert len(vod.calls) == 1
    assert report.saved == 2 - len(attempts_left)
    assert attempts(store) == attempts_left
