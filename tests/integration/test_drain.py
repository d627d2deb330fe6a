"""Batch after batch until nothing is due: rate limit, budget and threads; on each of the three databases."""

from __future__ import annotations

import threading
import time

import pytest

from tests.builders import SECOND, element, request, source_context
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.sync.drain import Budget, concurrency_limits, drain
from worker.sync.source_context import SourceContext, SyncSettings
from worker.vod.testing import FakeVod


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


def test_all_workers_of_a_source_share_its_rate_limit(store: Store) -> None:
    vod, media_ids = FakeVod(), [f"m{number:03}" for number in range(60)]
    # An asset that VOD does not know would be fetched again after two seconds.
    vod.put(*map(element, media_ids))
    request(store, *media_ids)
    source_contexts = {"default": SourceContext("default", vod, SyncSettings(batch_size=1, linger=0 * SECOND, calls_per_second=50))}
    started = time.monotonic()
    stopping = threading.Event()

    def work() -> None:
        drain(store, source_contexts, now=store.now, stopping=stopping, budget=Budget(1000, 60 * SECOND))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    elapsed = time.monotonic() - started
    assert sorted(vod.calls) == [[media_id] for media_id in media_ids]
    assert len(vod.calls) <= 50 * elapsed + 1


def test_batches_run_until_nothing_is_due(store: Store, vod: FakeVod) -> None:
    vod.put(*(element(f"m{number:02}") for number in range(45)))
    request(store, *(f"m{number:02}" for number in range(45)), now=store.now())

    result = drain(store, {"default": source_context(vod)}, now=store.now, stopping=threading.Event())

    assert [len(call) for call in vod.calls] == [20, 20, 5]
    assert (result.batches, result.more_waiting) == (3, False)


def test_a_full_batch_wakes_other_workers(store: Store, vod: FakeVod) -> None:
    events: list[str] = []
    vod.during_call = lambda: events.append("call")
    request(store, *(f"m{number:02}" for number in range(45)), now=store.now())

    drain(
        store,
        {"default": source_context(vod)},
        now=store.now,
        stopping=threading.Event(),
        wake_workers=lambda: events.append("wake-up"),
    )

    assert events == ["wake-up", "call", "wake-up", "call", "call"]


def test_a_budget_limits_the_number_of_batches(store: Store, vod: FakeVod) -> None:
    request(store, *(f"m{number:02}" for number in range(45)), now=store.now())

    result = drain(store, {"default": source_context(vod)}, now=store.now, stopping=threading.Event(), budget=Budget(batches=2))

    assert (result.batches, result.more_waiting) == (2, True)


def test_a_source_that_does_not_answer_leaves_threads_for_the_others(store: Store) -> None:
    blocked, healthy = FakeVod(), FakeVod()
    blocked.put(*(element(f"s{number:03}") for number in range(100)))
    healthy.put(element("w"))
    called, ended, answered = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def call() -> None:
        called.release()
        answered.wait(60)

    blocked.during_call = call
    source_contexts = {
        "blocked": source_context(blocked, source="blocked"),
        "healthy": source_context(healthy, source="healthy"),
    }
    limits, stopping = concurrency_limits(source_contexts, threads=3), threading.Event()
    request(store, *blocked.media, source="blocked", now=store.now() - SECOND)

    def work() -> None:
        drain(store, source_contexts, now=store.now, stopping=stopping, limits=limits)
        ended.release()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    two_are_calling = called.acquire(timeout=60) and called.acquire(timeout=60)
    one_returned, two_returned = ended.acquire(timeout=60), ended.acquire(blocking=False)
    calls_before_answer = len(blocked.calls)
    request(store, "w", source="healthy", now=store.now() - SECOND)
    work()
    healthy_calls_before_answer = list(healthy.calls)
    answered.set()
    for thread in threads:
        thread.join(timeout=60)

    assert (two_are_calling, one_returned, two_returned) == (True, True, False)
    assert calls_before_answer == 2
    assert healthy_calls_before_answer == [["w"]]
    assert sorted(media_id for call in blocked.calls for media_id in call) == sorted(blocked.media)


def test_a_worker_starts_with_the_sources_that_no_other_worker_is_calling(store: Store) -> None:
    blocked, healthy = FakeVod(), FakeVod()
    blocked.put(*(element(f"s{number:03}") for number in range(100)))
    healthy.put(element("w"))
    served, answered = threading.Event(), threading.Event()

    def wait_for_answer() -> None:
        answered.wait(20)

    blocked.during_call = wait_for_answer
    healthy.during_call = served.set
    source_contexts = {
        "blocked": source_context(blocked, source="blocked"),
        "healthy": source_context(healthy, source="healthy"),
    }
    limits, stopping = concurrency_limits(source_contexts, threads=2), threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        drain(store, source_contexts, now=store.now, stopping=stopping, limits=limits, wake_workers=wake_workers)

    def wake_workers() -> None:
        if len(threads) < 2:
            threads.append(threading.Thread(target=work))
            threads[-1].start()

    request(store, "s000", source="blocked", now=store.now() - SECOND)
    request(store, "w", source="healthy", now=store.now() - SECOND)
    wake_workers()
    was_served = served.wait(20)
    was_still_blocked = not answered.is_set()
    answered.set()
    for thread in threads:
        thread.join(timeout=20)

    assert (was_served, was_still_blocked) == (True, True)
    assert [blocked.calls, healthy.calls] == [[["s000"]], [["w"]]]


def test_a_single_source_may_use_every_thread() -> None:
    assert concurrency_limits(["only"], threads=4) == {}


def test_a_concurrency_limit_is_released_after_a_failure(store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch) -> None:
    source_contexts = {name: source_context(vod, source=name) for name in ("a", "b")}
    limits = concurrency_limits(source_contexts, threads=2)
    vod.put(element("m"))
    request(store, "m", source="a", now=store.now() - SECOND)
    with monkeypatch.context() as patched:
        patched.setattr(store, "transact", lambda work: (_ for _ in ()).throw(StoreUnavailableError("gone")))
        with pytest.raises(StoreUnavailableError):
            drain(store, source_contexts, now=store.now, stopping=threading.Event(), limits=limits)

    result = drain(store, source_contexts, now=store.now, stopping=threading.Event(), limits=limits)

    assert result.batches == 1
