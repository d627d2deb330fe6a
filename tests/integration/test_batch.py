"""One batch from claim to settle, on each of the three databases, with a fake VOD."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import select

from tests.builders import NOON, SECOND, SETTINGS, announced, claim, element, notify, request, source_context
from tests.fake_time import FakeTime
from worker import runtime
from worker.core.errors import (
    StoreUnavailableError,
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.core.ids import reference_key
from worker.store import Store
from worker.store.catalogue.assets import Catalogue
from worker.store.inbox.sync_requests import BACKFILL, LIVE
from worker.store.installation_health import installation_health
from worker.store.rate_limit import RateLimiter
from worker.store.tables import media, quota, sync_request
from worker.sync.batch import BatchResult, sync_batch
from worker.sync.drain import Budget, concurrency_limits, drain
from worker.sync.source_context import SourceContext, SyncSettings
from worker.vod.testing import FakeVod


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime().install(monkeypatch, "worker.store.rate_limit", "worker.sync.fetch", "worker.sync.batch")


def run(store: Store, vod: FakeVod, *, now: Any = NOON + SECOND, settings: SyncSettings = SETTINGS) -> BatchResult:
    return sync_batch(store, source_context(vod, settings), now=now)


def states(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {row.media_id: row.state for row in connection.execute(select(media))}


def owing(store: Store) -> dict[str, Any]:
    with store.reading() as connection:
        return {row.media_id: row for row in connection.execute(select(sync_request))}


def test_repeated_notifications_cost_one_lookup(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"), element("b"))
    notify(store, "a", "a", "b")

    report = run(store, vod)

    assert vod.calls == [["a", "b"]]
    assert (report.claimed, report.saved, report.missing) == (2, 2, 0)
    assert owing(store) == {}


def test_every_id_is_accounted_for(store: Store, vod: FakeVod) -> None:
    vod.put(element("known"), element("secret"), element("silent"))
    vod.forbidden, vod.omitted = {"secret"}, {"silent"}
    notify(store, "known", "unknown", "secret", "silent")

    report = run(store, vod)

    assert states(store) == {"known": "ok", "unknown": "missing", "secret": "forbidden"}
    assert (report.saved, report.missing, report.forbidden, report.retried) == (1, 1, 1, 2)
    assert sorted(owing(store)) == ["silent", "unknown"]
    assert "does not mention" in owing(store)["silent"].last_error


def test_a_notification_during_the_fetch_leads_to_another_fetch(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))
    notify(store, "a")
    vod.during_call = lambda: notify(store, "a", event="TranscodeComplete") and None

    run(store, vod)
    vod.during_call = lambda: None
    run(store, vod, now=NOON + 2 * SECOND)

    assert vod.calls == [["a"], ["a"]]
    assert owing(store) == {}


def test_an_outage_postpones_with_growing_pauses_and_ends_in_a_dead_letter(store: Store, vod: FakeVod) -> None:
    settings = replace(SETTINGS, retry=replace(SETTINGS.retry, max_attempts=4))
    notify(store, "a")
    pauses = []
    at = NOON + SECOND
    for _ in range(3):
        vod.fail(VodUnavailableError("503"))
        run(store, vod, now=at, settings=settings)
        pauses.append((owing(store)["a"].available_at - at).total_seconds())
        at = owing(store)["a"].available_at + SECOND
    vod.fail(VodUnavailableError("503"))
    report = run(store, vod, now=at, settings=settings)

    assert pauses == [1, 2, 4]
    assert report.dead_lettered == 1
    assert (owing(store)["a"].state, owing(store)["a"].last_error, owing(store)["a"].attempts) == ("dead", "503", 4)


def test_throttling_holds_everybody_back_and_counts_as_no_attempt(store: Store, vod: FakeVod) -> None:
    notify(store, "a")
    vod.fail(VodThrottledError("Throttling.User", retry_after=30))

    run(store, vod)
    next_report = run(store, vod, now=NOON + 2 * SECOND)

    assert owing(store)["a"].attempts == 0
    assert len(vod.calls) == 1
    assert next_report.wait is not None
    assert 25 < next_report.wait.total_seconds() <= 30


def test_bad_credentials_stop_the_source_for_a_while_and_cost_no_attempt(store: Store, vod: FakeVod) -> None:
    notify(store, "a")
    vod.fail(VodCredentialsError("InvalidAccessKeyId.NotFound"))

    run(store, vod)
    next_report = run(store, vod, now=NOON + 2 * SECOND)

    assert owing(store)["a"].attempts == 0
    assert next_report.wait is not None
    assert next_report.wait.total_seconds() > 50


def held(store: Store) -> list[str]:
    with store.reading() as connection:
        return [each.fault for each in RateLimiter(connection).back_offs()]


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (VodUnavailableError("502"), ["502"]),
        (VodThrottledError("Throttling.User"), ["Throttling.User"]),
        (VodRefusedError("no such medium", code="InvalidParameter"), []),
        (None, []),
    ],
    ids=str,
)
def test_what_holds_a_source_back_is_the_last_thing_that_vod_said(
    store: Store, vod: FakeVod, fake_time: FakeTime, then: VodError | None, said: list[str]
) -> None:
    vod.put(element("a"))
    notify(store, "a")
    vod.fail(VodThrottledError("Throttling.Api", retry_after=0.01))
    run(store, vod)
    throttled = held(store)
    fake_time.sleep(0.1)
    vod.fail(*([then] if then else []))

    run(store, vod, now=NOON + 2 * SECOND)

    assert throttled == ["Throttling.Api"]
    assert held(store) == said


def test_requests_of_a_source_that_nobody_describes_are_named(store: Store) -> None:
    request(store, "a", "b", source="beta")
    request(store, "c", now=NOON + 60 * SECOND)

    with store.reading() as connection:
        seen = installation_health(connection, now=NOON + 61 * SECOND, sources={"default"})

    (problem,) = seen.problems
    assert "2 sync requests belong to source beta" in problem
    assert (seen.backlog.due, seen.served.due) == (3, 1)


def test_one_poisonous_id_sinks_only_itself(store: Store) -> None:
    class Picky(FakeVod):
        def batch_get_media_infos(self, media_ids: Any, reference_ids: Any = ()) -> dict[str, Any]:
            if "poison" in media_ids:
                self.calls.append(list(media_ids))
                raise VodRefusedError("InvalidParameter", code="InvalidParameter", status=400)
            return super().batch_get_media_infos(media_ids, reference_ids)

    vod = Picky()
    good = [f"m{number:02}" for number in range(19)]
    vod.put(*(element(each) for each in good))
    notify(store, *good, "poison")

    report = run(store, vod)

    assert (report.saved, report.dead_lettered) == (19, 1)
    assert set(states(store)) == set(good)
    assert (owing(store)["poison"].state, owing(store)["poison"].last_error) == ("dead", "InvalidParameter")


@pytest.mark.parametrize("error", [VodUnreadableError("nested too deep"), RecursionError("a fault of ours")])
def test_an_answer_that_nobody_can_read_is_halved_the_second_time(store: Store, error: Exception) -> None:
    class Garbled(FakeVod):
        def batch_get_media_infos(self, media_ids: Any, reference_ids: Any = ()) -> dict[str, Any]:
            if "garbled" in media_ids:
                raise error
            return super().batch_get_media_infos(media_ids, reference_ids)

    vod = Garbled()
    vod.put(element("a"), element("b"), element("c"))
    notify(store, "a", "b", "c", "garbled")

    first = run(store, vod)
    second = run(store, vod, now=NOON + 60 * SECOND)

    assert (first.saved, first.retried) == (0, 4)
    assert (second.saved, second.retried) == (3, 1)
    assert set(states(store)) == {"a", "b", "c"}
    assert owing(store)["garbled"].attempts == 2


class Fragile(FakeVod):
    """Resets each call that names one of `deadly`."""

    deadly: frozenset[str] = frozenset()

    def batch_get_media_infos(self, media_ids: Any, reference_ids: Any = ()) -> dict[str, Any]:
        if self.deadly & set(media_ids):
            self.calls.append(list(media_ids))
            raise VodUnavailableError("connection reset")
        return super().batch_get_media_infos(media_ids, reference_ids)


def test_an_id_that_makes_vod_fail_each_time_stands_alone_at_the_second_attempt(store: Store) -> None:
    vod, good = Fragile(), [f"m{number:02}" for number in range(19)]
    vod.deadly = frozenset({"deadly"})
    vod.put(*(element(each) for each in good))
    notify(store, *good[:7], "deadly", *good[7:])

    first = run(store, vod)
    second = run(store, vod, now=NOON + 60 * SECOND)

    assert (first.saved, first.calls) == (0, 1)
    assert (second.saved, second.retried) == (19, 1)
    assert owing(store)["deadly"].attempts == 2


def test_an_outage_is_not_asked_for_each_half_of_a_half(store: Store) -> None:
    vod, media_ids = Fragile(), [f"m{number:02}" for number in range(20)]
    vod.deadly = frozenset(media_ids)
    notify(store, *media_ids)

    calls = [run(store, vod, now=NOON + 60 * number * SECOND).calls for number in (1, 2, 3)]

    assert calls == [1, 3, 3]
    assert {row.attempts for row in owing(store).values()} == {3}


def test_an_answer_that_the_database_does_not_take_counts_as_an_attempt(
    store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch
) -> None:
    vod.put(element("a"))
    notify(store, "a")

    def refuse(*_: Any, **__: Any) -> None:
        raise sa.exc.DataError("INSERT", {}, Exception("value out of range"))

    monkeypatch.setattr(Catalogue, "save", refuse)

    report = run(store, vod)

    assert (report.saved, report.retried) == (0, 1)
    assert owing(store)["a"].attempts == 1
    assert "out of range" in owing(store)["a"].last_error


def test_what_the_database_does_not_take_sinks_only_itself(store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a medium that is larger than the longest packet."""
    good = [f"m{number:02}" for number in range(19)]
    vod.put(*(element(each) for each in [*good, "huge"]))
    notify(store, *good[:7], "huge", *good[7:])
    save = Catalogue.save

    def refuse(catalogue: Catalogue, source: str, medias: Any, **options: Any) -> Any:
        if any(each.media_id == "huge" for each in medias):
            raise sa.exc.OperationalError("INSERT", {}, Exception("packet bigger than max_allowed_packet"))
        return save(catalogue, source, medias, **options)

    monkeypatch.setattr(Catalogue, "save", refuse)

    report = run(store, vod)

    assert (report.claimed, report.saved, report.retried, report.calls) == (20, 19, 1, 1)
    assert set(states(store)) == set(good)
    assert [(row.media_id, row.attempts) for row in owing(store).values()] == [("huge", 1)]


@pytest.mark.parametrize("where", [(Catalogue, "save"), (RateLimiter, "back_off")], ids=["store", "fetch"])
def test_a_fault_of_ours_counts_as_an_attempt_and_shows_no_values(
    store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch, where: tuple[type, str]
) -> None:
    vod.put(element("a"))
    vod.fail(*([VodThrottledError("Throttling.User")] if where[0] is RateLimiter else []))
    notify(store, "a")

    def stumble(*_: Any, **__: Any) -> None:
        raise UnicodeEncodeError("utf-8", "UPDATE secret", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(*where, stumble)

    report = run(store, vod)

    assert report.retried == 1
    assert (owing(store)["a"].attempts, owing(store)["a"].last_error) == (1, "vodsync failed: UnicodeEncodeError")


def test_a_404_for_the_whole_batch_means_that_all_are_missing(store: Store, vod: FakeVod) -> None:
    notify(store, "a", "b")
    vod.fail(VodRefusedError("not found", code="InvalidVideo.NotFound", status=404))

    report = run(store, vod)

    assert report.missing == 2
    assert states(store) == {"a": "missing", "b": "missing"}


def test_reference_ids_find_their_media(store: Store, vod: FakeVod) -> None:
    vod.put(element("a", ReferenceId="ref-000001"))
    request(store, reference_key("ref-000001"), reference_key("ref-unknown"))

    report = run(store, vod)

    assert states(store) == {"a": "ok"}
    assert (report.saved, report.dead_lettered) == (1, 1)
    assert list(owing(store)) == [reference_key("ref-unknown")]


def test_a_medium_asked_for_by_both_ids_is_stored_once(store: Store, vod: FakeVod) -> None:
    vod.put(element("a", ReferenceId="ref-000001"))
    request(store, "a", reference_key("ref-000001"))

    run(store, vod)

    assert states(store) == {"a": "ok"}
    assert owing(store) == {}


def test_a_batch_is_topped_up_from_the_backfill(store: Store, vod: FakeVod) -> None:
    request(store, *(f"b{number:02}" for number in range(30)), priority=BACKFILL, now=NOON - SECOND)
    request(store, "live", priority=LIVE)

    run(store, vod)

    assert len(vod.calls[0]) == 20
    assert vod.calls[0][0] == "live"


def test_no_transaction_is_open_while_vod_is_asked(store: Store, vod: FakeVod) -> None:
    notify(store, "a")
    vod.during_call = lambda: notify(store, "b")  # type: ignore[assignment, return-value]

    run(store, vod)

    assert "b" in owing(store)


def test_a_worker_that_lost_its_lease_overwrites_nothing(store: Store, fake_time: FakeTime) -> None:
    slow, fast = FakeVod(), FakeVod()
    slow.put(element("a", Title="old"))
    fast.put(element("a", Title="new"))
    notify(store, "a")

    def overtaken() -> None:
        fake_time.sleep(0.05)
        sync_batch(store, source_context(fast), now=NOON + 120 * SECOND)

    slow.during_call = overtaken
    run(store, slow)

    with store.reading() as connection:
        title = connection.execute(select(media.c.title)).scalar_one()
    assert title == "new"
    assert owing(store) == {}


@pytest.mark.parametrize(
    ("before", "signing", "answering", "warm", "late"),
    [(0.3, 0, 0, True, True), (0, 0.3, 0, True, True), (0, 0, 1, True, False), (0, 0, 0.3, False, True)],
)
def test_a_call_that_leaves_late_is_counted_where_it_leaves(
    store: Store,
    vod: FakeVod,
    fake_time: FakeTime,
    before: float,
    signing: float,
    answering: float,
    warm: bool,
    late: bool,
) -> None:
    """Seconds before the call and in it; the first call of a client, which loads certificates, counts where it is answered."""

    def call() -> None:
        fake_time.sleep(signing)
        vod.sent_at = fake_time.monotonic()
        fake_time.sleep(answering)

    vod.is_warm = warm
    vod.during_call = call
    request(store, "a")

    sync_batch(store, source_context(vod), now=NOON + SECOND, sleep=lambda _: fake_time.sleep(before))

    with store.reading() as connection:
        row = connection.execute(select(quota.c.next_at_us, quota.c.started_us)).one()
    planned = row.next_at_us - 1_000_000 / SETTINGS.calls_per_second
    seconds_late = (row.started_us[-1] - planned) / 1_000_000
    assert seconds_late == pytest.approx(before + signing + answering if late else 0)


def test_the_quota_holds_for_workers_together(store: Store) -> None:
    vod, media_ids = FakeVod(), [f"m{number:03}" for number in range(60)]
    # An asset that VOD does not know would be fetched again after two seconds.
    vod.put(*map(element, media_ids))
    request(store, *media_ids)
    source_contexts = {"default": SourceContext("default", vod, SyncSettings(batch_size=1, linger=0 * SECOND, calls_per_second=50))}
    started = time.monotonic()
    stopping = threading.Event()

    def work() -> None:
        drain(store, source_contexts, now=runtime.now, stopping=stopping, budget=Budget(1000, 60 * SECOND))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    elapsed = time.monotonic() - started
    assert sorted(vod.calls) == [[media_id] for media_id in media_ids]
    assert len(vod.calls) <= 50 * elapsed + 1


def test_work_goes_on_until_nothing_is_due(store: Store, vod: FakeVod) -> None:
    vod.put(*(element(f"m{number:02}") for number in range(45)))
    request(store, *(f"m{number:02}" for number in range(45)), now=runtime.now())

    worked = drain(store, {"default": source_context(vod)}, now=runtime.now, stopping=threading.Event())

    assert [len(call) for call in vod.calls] == [20, 20, 5]
    assert (worked.batches, worked.more_waiting) == (3, False)


def test_a_full_batch_has_others_called_beside_it(store: Store, vod: FakeVod) -> None:
    rung: list[int] = []
    vod.during_call = lambda: rung.append(0)
    request(store, *(f"m{number:02}" for number in range(45)), now=runtime.now())

    drain(
        store,
        {"default": source_context(vod)},
        now=runtime.now,
        stopping=threading.Event(),
        wake_workers=lambda: rung.append(1),
    )

    # Before each call of a full batch.
    assert rung == [1, 0, 1, 0, 0]


def test_a_turn_that_was_slept_through_is_not_taken(store: Store, vod: FakeVod, fake_time: FakeTime) -> None:
    vod.put(element("a"))
    request(store, "a")
    naps = iter([0.8])

    sync_batch(store, source_context(vod), now=NOON + SECOND, sleep=lambda _: fake_time.sleep(next(naps, 0)))

    with store.reading() as connection:
        assert len(connection.execute(select(quota.c.started_us)).scalar_one()) == 2
    assert states(store) == {"a": "ok"}


def test_work_yields_after_its_share(store: Store, vod: FakeVod) -> None:
    request(store, *(f"m{number:02}" for number in range(45)), now=runtime.now())

    worked = drain(store, {"default": source_context(vod)}, now=runtime.now, stopping=threading.Event(), budget=Budget(batches=2))

    assert (worked.batches, worked.more_waiting) == (2, True)


def test_a_source_that_does_not_answer_leaves_threads_for_the_others(store: Store) -> None:
    silent, well = FakeVod(), FakeVod()
    silent.put(*(element(f"s{number:03}") for number in range(100)))
    well.put(element("w"))
    called, ended, answered = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def call() -> None:
        called.release()
        answered.wait(60)

    silent.during_call = call
    source_contexts = {"silent": source_context(silent, source="silent"), "well": source_context(well, source="well")}
    limits, stopping = concurrency_limits(source_contexts, threads=3), threading.Event()
    request(store, *silent.media, source="silent", now=runtime.now() - SECOND)

    def work() -> None:
        drain(store, source_contexts, now=runtime.now, stopping=stopping, limits=limits)
        ended.release()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    both_inside = called.acquire(timeout=60) and called.acquire(timeout=60)
    one_free, two_free = ended.acquire(timeout=60), ended.acquire(blocking=False)
    calls_in_silence = len(silent.calls)
    request(store, "w", source="well", now=runtime.now() - SECOND)
    work()
    well_in_silence = list(well.calls)
    answered.set()
    for thread in threads:
        thread.join(timeout=60)

    assert (both_inside, one_free, two_free) == (True, True, False)
    assert calls_in_silence == 2
    assert well_in_silence == [["w"]]
    assert sorted(media_id for call in silent.calls for media_id in call) == sorted(silent.media)


def test_who_comes_behind_a_call_that_is_not_answered_begins_with_the_other_sources(store: Store) -> None:
    silent, well = FakeVod(), FakeVod()
    silent.put(*(element(f"s{number:03}") for number in range(100)))
    well.put(element("w"))
    served, answered = threading.Event(), threading.Event()
    silent.during_call = lambda: answered.wait(20) and None
    well.during_call = served.set
    source_contexts = {"silent": source_context(silent, source="silent"), "well": source_context(well, source="well")}
    limits, stopping = concurrency_limits(source_contexts, threads=2), threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        drain(store, source_contexts, now=runtime.now, stopping=stopping, limits=limits, wake_workers=wake_workers)

    def wake_workers() -> None:
        if len(threads) < 2:
            threads.append(threading.Thread(target=work))
            threads[-1].start()

    request(store, "s000", source="silent", now=runtime.now() - SECOND)
    request(store, "w", source="well", now=runtime.now() - SECOND)
    wake_workers()
    came = served.wait(20)
    waiting = not answered.is_set()
    answered.set()
    for thread in threads:
        thread.join(timeout=20)

    assert (came, waiting) == (True, True)
    assert [silent.calls, well.calls] == [[["s000"]], [["w"]]]


def test_a_source_alone_has_every_thread() -> None:
    assert concurrency_limits(["only"], threads=4) == {}


def test_a_gate_is_open_again_after_a_failure(store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch) -> None:
    source_contexts = {name: source_context(vod, source=name) for name in ("a", "b")}
    limits = concurrency_limits(source_contexts, threads=2)
    vod.put(element("m"))
    request(store, "m", source="a", now=runtime.now() - SECOND)
    with monkeypatch.context() as patched:
        patched.setattr(store, "transact", lambda work: (_ for _ in ()).throw(StoreUnavailableError("gone")))
        with pytest.raises(StoreUnavailableError):
            drain(store, source_contexts, now=runtime.now, stopping=threading.Event(), limits=limits)

    worked = drain(store, source_contexts, now=runtime.now, stopping=threading.Event(), limits=limits)

    assert worked.batches == 1


def test_a_failing_database_leaves_the_batch_to_the_lease(store: Store, vod: FakeVod, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_announced_medium_is_stored_before_its_analysis(store: Store, vod: FakeVod) -> None:
    vod.put(announced("a"))
    notify(store, "a", event="FileUploadComplete")

    run(store, vod)

    assert states(store) == {"a": "ok"}
