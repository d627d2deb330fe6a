"""Waiting for media that were asked for, on each of the three databases."""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from tests.builders import NOON, SECOND, claimed, clip, element, request, source_context
from worker import runtime
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
def here(migrated_url: str) -> Runtime:
    return Runtime(load(environ={"VODSYNC_DATABASE_URL": migrated_url}))


def awaiting(*keys: str) -> Awaited:
    awaited = Awaited()
    awaited.add(keys)
    return awaited


def finish(store: Store, *media_ids: str, error: str | None = None) -> None:
    """A worker's end of it: stored and settled, or given up on."""
    end(store, claimed(store, limit=1000), *media_ids, error=error)


def end(store: Store, claim: Claim, *media_ids: str, error: str | None = None) -> None:
    with store.engine.begin() as connection:
        if error:
            SyncRequests(connection).dead_letter(claim, dict.fromkeys(media_ids, error), now=NOON)
        else:
            Catalogue(connection).save("default", [clip(each) for each in media_ids], observed_at=NOON)
            SyncRequests(connection).complete(claim, media_ids, now=NOON)


def test_each_way_to_end_is_counted_and_failures_are_named(store: Store, here: Runtime) -> None:
    request(store, "good")
    finish(store, "good")
    request(store, "bad")
    finish(store, "bad", error="broken")
    store.transact(lambda connection: Catalogue(connection).mark("default", ["gone"], MISSING, observed_at=NOON))
    request(store, "due")

    endings = wait(here, "default", awaiting("good", "bad", "gone", "due"), timeout=0.5)

    assert endings.counts == {Outcome.OK: 1, Outcome.DEAD: 1, Outcome.MISSING: 1, Outcome.WAITING: 1}
    assert {(key, each.outcome, each.error) for key, each in endings.failures} == {
        ("bad", Outcome.DEAD, "broken"),
        ("gone", Outcome.MISSING, None),
        ("due", Outcome.WAITING, None),
    }


def test_an_answer_without_the_medium_is_no_success_although_it_is_not_believed_yet(store: Store, here: Runtime) -> None:
    vod = FakeVod()
    vod.put(element("known"), element("at-work", Status="Transcoding"))
    request(store, "known", "at-work", priority=MANUAL)
    sync_batch(store, source_context(vod), now=NOON + SECOND)
    del vod.media["known"]
    request(store, "known", "at-work", priority=MANUAL, now=runtime.now())
    sync_batch(store, source_context(vod), now=runtime.now() + SECOND)

    endings = wait(here, "default", awaiting("known", "at-work"), timeout=0.5)

    assert endings.counts == {Outcome.OK: 1, Outcome.MISSING: 1}
    assert [(key, ended.error) for key, ended in endings.failures] == [("known", "VOD does not know this id (yet)")]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_those_that_do_not_move_hide_no_others(store: Store, here: Runtime, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "CHUNK_SIZE", chunk)
    monkeypatch.setattr(progress, "POLL_INTERVAL", 0.001)
    monkeypatch.setattr(progress, "STUCK_AFTER", 0.01)
    ids = [f"m{number:02}" for number in range(40)]
    request(store, *ids)
    seen = threading.Event()

    class Watched(Bar):
        def reach(self, count: int) -> None:
            if count == 30:
                seen.set()

    def work() -> None:
        claim = claimed(store, limit=1000)
        end(store, claim, *ids[10:])
        seen.wait(60)
        end(store, claim, *ids[:10])

    monkeypatch.setattr(progress, "Bar", Watched)
    worker = threading.Timer(0.2, work)
    worker.start()
    endings = wait(here, "default", awaiting(*ids), timeout=90)
    worker.join()

    assert seen.is_set()
    assert endings.counts == {Outcome.OK: 40}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_many_are_waited_for_in_little_memory(store: Store, here: Runtime) -> None:
    awaited = Awaited()
    tracemalloc.start()
    for start in range(0, 200_000, 1000):
        awaited.add([f"{number:032x}" for number in range(start, start + 1000)])

    endings = wait(here, "default", awaited, timeout=None)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert endings.counts == {Outcome.OK: 200_000}
    assert peak < 12_000_000
