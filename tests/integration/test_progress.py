"""Wait for requested assets, on each of the three databases."""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from tests.builders import NOON, SECOND, claimed, clip, element, request, source_context
from worker.cli import progress
from worker.cli.bar import Bar
from worker.cli.progress import Awaited, wait
from worker.runtime import Runtime
from worker.settings import load
from worker.store import Store
from worker.store.catalogue.assets import MISSING, Catalogue
from worker.store.inbox.outcomes import Outcome
from worker.store.inbox.sync_requests import MANUAL, Claim, SyncRequests
from worker.sync.batch import sync_batch
from worker.vod.testing import FakeVod


@pytest.fixture
def current(migrated_url: str) -> Runtime:
    return Runtime(load(environ={"VODSYNC_DATABASE_URL": migrated_url}))


def awaiting(*keys: str) -> Awaited:
    awaited = Awaited()
    awaited.add(keys)
    return awaited


def finish(store: Store, *media_ids: str, error: str | None = None) -> None:
    """Do what a worker does: claim everything, then store and complete these assets, or dead-letter them."""
    complete(store, claimed(store, limit=1000), *media_ids, error=error)


def complete(store: Store, claim: Claim, *media_ids: str, error: str | None = None) -> None:
    with store.engine.begin() as connection:
        if error:
            SyncRequests(connection).dead_letter(claim, dict.fromkeys(media_ids, error), now=NOON)
        else:
            Catalogue(connection).save("default", [clip(media_id) for media_id in media_ids], observed_at=NOON)
            SyncRequests(connection).complete(claim, media_ids, now=NOON)


def test_each_outcome_is_counted_and_failures_are_named(store: Store, current: Runtime) -> None:
    request(store, "good")
    finish(store, "good")
    request(store, "bad")
    finish(store, "bad", error="broken")
    store.transact(lambda connection: Catalogue(connection).mark("default", ["gone"], MISSING, observed_at=NOON))
    request(store, "due")

    endings = wait(current, "default", awaiting("good", "bad", "gone", "due"), timeout=0.5)

    assert endings.counts == {Outcome.OK: 1, Outcome.DEAD: 1, Outcome.MISSING: 1, Outcome.WAITING: 1}
    assert {(key, failure.outcome, failure.error) for key, failure in endings.failures} == {
        ("bad", Outcome.DEAD, "broken"),
        ("gone", Outcome.MISSING, None),
        ("due", Outcome.WAITING, None),
    }


def test_an_answer_without_the_asset_is_not_a_success_although_it_is_retried(store: Store, current: Runtime) -> None:
    vod = FakeVod()
    vod.put(element("known"), element("transcoding", Status="Transcoding"))
    request(store, "known", "transcoding", priority=MANUAL)
    sync_batch(store, source_context(vod), now=NOON + SECOND)
    del vod.media["known"]
    request(store, "known", "transcoding", priority=MANUAL, now=store.now())
    sync_batch(store, source_context(vod), now=store.now() + SECOND)

    endings = wait(current, "default", awaiting("known", "transcoding"), timeout=0.5)

    assert endings.counts == {Outcome.OK: 1, Outcome.MISSING: 1}
    assert [(key, failure.error) for key, failure in endings.failures] == [("known", "VOD does not know this id (yet)")]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_assets_without_progress_hide_no_others(
    store: Store, current: Runtime, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "CHUNK_SIZE", chunk)
    monkeypatch.setattr(progress, "POLL_INTERVAL", 0.001)
    monkeypatch.setattr(progress, "STUCK_AFTER", 0.01)
    ids = [f"m{number:02}" for number in range(40)]
    request(store, *ids)
    reached = threading.Event()

    class WatchedBar(Bar):
        def reach(self, count: int) -> None:
            if count == 30:
                reached.set()

    def work() -> None:
        claim = claimed(store, limit=1000)
        complete(store, claim, *ids[10:])
        reached.wait(60)
        complete(store, claim, *ids[:10])

    monkeypatch.setattr(progress, "Bar", WatchedBar)
    worker = threading.Timer(0.2, work)
    worker.start()
    endings = wait(current, "default", awaiting(*ids), timeout=90)
    worker.join()

    assert reached.is_set()
    assert endings.counts == {Outcome.OK: 40}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_waiting_for_many_assets_takes_little_memory(store: Store, current: Runtime) -> None:
    awaited = Awaited()
    tracemalloc.start()
    for start in range(0, 200_000, 1000):
        awaited.add([f"{number:032x}" for number in range(start, start + 1000)])

    endings = wait(current, "default", awaited, timeout=None)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert endings.counts == {Outcome.OK: 200_000}
    assert peak < 12_000_000
