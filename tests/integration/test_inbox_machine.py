"""Workers that overlap, die and come back late, in every order that Hypothesis thinks of: nothing is lost, nothing goes back.

The clock is the machine's, and every batch is taken apart into claim, fetch and store, so that several are under way at once.
VODSYNC_TEST_EXAMPLES=2000 looks for longer.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import and_, select

from tests.builders import NOON, SECOND, announced, body, element
from worker.core import events
from worker.core.backoff import Backoff
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.store import Store, tables
from worker.store.inbox.sync_requests import BACKFILL, MANUAL, Claim, Request, SyncRequests
from worker.store.rate_limit import Slot
from worker.sync import batch
from worker.sync.fetch import Fetcher, FetchResult
from worker.sync.receive import delivery, receive
from worker.sync.retry_policy import RetryPolicy
from worker.sync.source_context import SourceContext, SyncSettings
from worker.vod.testing import FakeVod

#: Batches overlap, letters die and patience ends within a few steps. The quota has the database's own clock, so it never says wait.
SETTINGS = SyncSettings(
    batch_size=2,
    linger=0 * SECOND,
    lease=60 * SECOND,
    calls_per_second=100_000,
    retry=RetryPolicy(
        max_attempts=2,
        backoff=Backoff(5 * SECOND, 10 * SECOND),
        throttle_pause=0 * SECOND,
        credentials_pause=0 * SECOND,
        not_final_delays=(2 * SECOND, 15 * SECOND),
        follow_up=Backoff(30 * SECOND, 60 * SECOND),
        follow_up_limit=120 * SECOND,
    ),
)
WORKERS = 3
HIDDEN = ("gone", "forbidden", "silent")

MEDIA_IDS = st.sampled_from(["a", "b", "c"])
#: What leads to a settle comes often, for most races are lost there.
KINDS = ["final", "final", "final", "transcoding", "announced", "gone", "gone", "forbidden", "silent"]
EVENTS: dict[str, dict[str, str]] = {
    "TranscodeComplete": {},
    "VideoAnalysisComplete": {"Status": "fail"},
    "DeleteMediaComplete": {"DeleteType": "all", "MediaType": "video"},
}
TROUBLES: dict[str, list[VodError]] = {
    "unavailable": [VodUnavailableError("503")],
    "throttled": [VodThrottledError("Throttling.User")],
    "credentials": [VodCredentialsError("InvalidAccessKeyId.NotFound")],
    "one id refused": [VodRefusedError("InvalidParameter"), VodRefusedError("InvalidParameter")],
    "batch refused": [VodRefusedError("InvalidParameter")],
    "not yet": [
        VodRefusedError("not yet", code="Forbidden.IllegalStatus"),
        VodRefusedError("not yet", code="Forbidden.IllegalStatus"),
    ],
}


@dataclass(frozen=True, slots=True)
class Truth:
    """How a medium is at VOD: final, transcoding, announced, gone, forbidden, or passed over in silence."""

    kind: str = "gone"
    version: int = 1

    @property
    def title(self) -> str:
        return f"version {self.version}"


@dataclass(frozen=True, slots=True)
class Row:
    """What vod_media and vod_mezzanine should say; `size` is the version of the last answer with an analysed file."""

    observed_at: datetime
    state: str
    title: str | None = None
    size: int | None = None
    deleted_at: datetime | None = None


@dataclass(eq=False)
class Worker:
    """One batch under way. `asked` is how often each medium had been asked for when it was claimed."""

    number: int
    now: datetime
    claim: Claim
    slot: Slot
    asked: dict[str, int]
    fetched: FetchResult | None = None
    answers: dict[str, tuple[Truth, datetime]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<worker {self.number} with {self.claim.media_ids}>"


class InboxMachine(RuleBasedStateMachine):
    """Receivers, workers and VOD, each of them one step at a time, beside a model of what should stand in the database."""

    sent = Bundle("sent")

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        with store.engine.begin() as connection:
            for table in tables.metadata.sorted_tables:
                connection.execute(table.delete())
        self.now = NOON
        self.vod = FakeVod()
        self.context = SourceContext("default", self.vod, SETTINGS)
        self.count = self.settled_at = 0
        self.truth: dict[str, Truth] = {}
        self.deliveries: Counter[str] = Counter()
        #: When each medium was deleted, and when that was told.
        self.deletions: dict[str, tuple[datetime, datetime]] = {}
        #: How often each medium was asked for: ever, before VOD last changed it, before the claim that was answered, or buried.
        self.asked: Counter[str] = Counter()
        self.asked_before_change: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.buried: dict[str, int] = {}
        self.workers: dict[int, Worker] = {}
        self.holder: dict[str, Worker] = {}
        self.rows: dict[str, Row] = {}
        for media_id in ("a", "b"):
            self.vod_changes(media_id, "final", told="TranscodeComplete")

    # What VOD does

    @rule(media_id=MEDIA_IDS, kind=st.sampled_from(KINDS), told=st.sampled_from([None, *EVENTS]))
    def vod_changes(self, media_id: str, kind: str, told: str | None) -> None:
        """Change a medium, and tell or keep it quiet; one that was hidden comes back as it was."""
        self.count += 1
        old = self.truth.get(media_id, Truth())
        truth = self.truth[media_id] = Truth(kind, old.version if old.kind in HIDDEN or kind in HIDDEN else self.count)
        self.asked_before_change[media_id] = self.asked[media_id]
        self.vod.media.pop(media_id, None)
        for hidden in (self.vod.forbidden, self.vod.omitted):
            hidden.discard(media_id)
        if kind in ("final", "transcoding"):
            shown = element(media_id, Title=truth.title, Status="Normal" if kind == "final" else "Transcoding")
            shown["MezzanineInfo"]["Size"] = truth.version
            self.vod.put(shown)
        elif kind == "announced":
            self.vod.put(announced(media_id, Title=truth.title))
        elif kind == "forbidden":
            self.vod.forbidden.add(media_id)
        elif kind == "silent":
            self.vod.omitted.add(media_id)
        if told:
            self.deliver([self.notification(media_id, told)])

    @rule(
        target=sent, media_ids=st.lists(MEDIA_IDS, min_size=1, max_size=3), event=st.sampled_from(list(EVENTS)), twice=st.booleans()
    )
    def vod_notifies(self, media_ids: list[str], event: str, twice: bool) -> MultipleResults[events.Notification]:
        news = [self.notification(media_id, event) for media_id in media_ids]
        self.deliver(news + news[:1] if twice else news)
        return multiple(*news)

    @rule(old=sent, other=sent, media_id=MEDIA_IDS)
    def vod_notifies_again(self, old: events.Notification, other: events.Notification, media_id: str) -> None:
        """In one commit with something new, as a receiver gathers them."""
        self.deliver([old, self.notification(media_id, "TranscodeComplete"), other])

    @rule(trouble=st.sampled_from(list(TROUBLES)))
    def vod_is_in_trouble(self, trouble: str) -> None:
        self.vod.fail(*TROUBLES[trouble])

    # What we do

    @rule(media_id=MEDIA_IDS, priority=st.sampled_from([MANUAL, BACKFILL]), pause=st.sampled_from([0, 30]))
    def somebody_asks(self, media_id: str, priority: int, pause: int) -> None:
        wanted = Request("default", media_id, "test", priority, self.now + timedelta(seconds=pause))
        self.store.transact(lambda connection: SyncRequests(connection).request([wanted], now=self.now))
        self.asked[media_id] += 1

    @rule(seconds=st.sampled_from([0, 0, 1, 5, 30, 61, 600]), numbers=st.lists(st.integers(1, WORKERS), min_size=1, max_size=6))
    def time_passes_and_workers_go_on(self, seconds: int, numbers: list[int]) -> None:
        """Each takes its next step: it claims, fetches or stores."""
        self.now += timedelta(seconds=seconds)
        for number in numbers:
            self.go_on(number)

    @rule(number=st.integers(1, WORKERS))
    def a_worker_dies(self, number: int) -> None:
        self.workers.pop(number, None)

    @precondition(lambda self: self.count > self.settled_at + 30)
    @rule()
    def the_dust_settles(self) -> None:
        """Whoever is slow now is overtaken, and may come back later still."""
        self.settled_at = self.count
        for _ in range(100):
            pending = [row.available_at for row in self.requests().values() if row.state == "due"]
            if not pending:
                return
            self.now = max(self.now, *pending)
            for _ in ("claim", "fetch", "store"):
                self.go_on(WORKERS + 1)
        raise AssertionError("workers go round in circles")

    def go_on(self, number: int) -> None:
        worker = self.workers.get(number)
        if not worker:
            self.claim(number)
        elif not worker.fetched:
            self.fetch(worker)
        else:
            self.finish(worker, worker.fetched)

    def notification(self, media_id: str, event: str) -> events.Notification:
        self.count += 1
        said = {"EventTime": f"{self.now:%Y-%m-%dT%H:%M:%SZ}", "Extend": str(self.count)} | EVENTS[event]
        return events.parse(body(media_id, event, **said))

    def deliver(self, notifications: list[events.Notification]) -> None:
        new = {each.event_key: each for each in notifications if each.event_key not in self.deliveries}
        deliveries = [delivery("default", each, received_at=self.now) for each in notifications]

        told_new = receive(self.store, deliveries, now=self.now)

        assert told_new == len(new)
        self.deliveries.update(each.event_key for each in notifications)
        for media_id in {media_id for each in new.values() for media_id in each.media_ids}:
            self.asked[media_id] += 1
        for each in new.values():
            if each.is_deletion and each.event_time:
                self.deletions |= dict.fromkeys(each.media_ids, (each.event_time, self.now))

    def claim(self, number: int) -> None:
        due = {media_id for media_id, row in self.requests().items() if row.state == "due" and row.available_at <= self.now}

        taken: Any = self.store.transact(lambda connection: batch.claim_batch(connection, self.context, self.now))

        if taken is None:
            assert not due
            return
        claim, slot = taken
        assert set(claim.media_ids) <= due
        assert len(claim.media_ids) == len(set(claim.media_ids)) == min(len(due), SETTINGS.batch_size)
        for other in self.workers.values():
            still_held = {media_id for media_id in other.claim.media_ids if self.holder.get(media_id) is other}
            assert other.claim.until <= self.now or not still_held & set(claim.media_ids), "two live leases for one medium"
        worker = Worker(number, self.now, claim, slot, {media_id: self.asked[media_id] for media_id in claim.media_ids})
        self.workers[number] = worker
        self.holder |= dict.fromkeys(claim.media_ids, worker)

    def fetch(self, worker: Worker) -> None:
        fetcher = Fetcher(self.store, self.context, worker.claim, sleep=lambda seconds: None)
        worker.fetched = fetcher.fetch(worker.claim.media_ids, worker.slot)
        for answer, asked_at in worker.fetched.answers:
            for media_id in {media.media_id for media in answer.media} | answer.missing | answer.forbidden:
                worker.answers[media_id] = self.truth.get(media_id, Truth()), asked_at

    def finish(self, worker: Worker, fetched: FetchResult) -> None:
        before = self.requests()

        self.store.transact(lambda connection: batch.store_results(connection, self.context, worker.claim, fetched, now=worker.now))

        after = self.requests()
        held = {media_id for media_id in worker.claim.media_ids if self.holder.get(media_id) is worker}
        for media_id in before.keys() | after.keys():
            if media_id not in held:
                assert after.get(media_id) == before.get(media_id), f"{worker} touched {media_id}, which is not its own (any more)"
        for media_id in held:
            left = after.get(media_id)
            if self.asked[media_id] > worker.asked[media_id]:
                assert left, f"what was asked of {media_id} during the fetch is lost"
                assert (left.state, left.claim, left.available_at <= self.now) == ("due", None, True)
            elif left is None:
                assert media_id in worker.answers, f"{media_id} was settled without an answer"
            else:
                assert left.claim is None
                if left.state == "dead":
                    self.buried[media_id] = worker.asked[media_id]
            del self.holder[media_id]
        for media_id in worker.answers:
            self.learn(worker, media_id)
        del self.workers[worker.number]

    def learn(self, worker: Worker, media_id: str) -> None:
        """Put one answer into the model, unless it already holds a newer one."""
        self.answered[media_id] = max(self.answered[media_id], worker.asked[media_id])
        truth, asked_at = worker.answers[media_id]
        row = self.rows.get(media_id)
        if row and row.observed_at >= asked_at:
            return
        row = replace(row, observed_at=asked_at) if row else Row(asked_at, "new")
        if truth.kind == "gone":
            (request,) = (each for each in worker.claim.requests if each.media_id == media_id)
            deleted_at, told_at = self.deletions.get(media_id, (None, None))
            if told_at and (row.state in ("new", "deleted") or told_at >= request.requested_at):
                since = row.deleted_at if row.state == "deleted" else deleted_at
                row = replace(row, state="deleted", deleted_at=since)
            elif row.state == "new" or not SETTINGS.retry.retry_not_final(request, "", now=worker.now, stored=row.state == "ok"):
                row = replace(row, state="missing", deleted_at=None)
            else:
                return
        elif truth.kind == "forbidden":
            row = replace(row, state="forbidden", deleted_at=None)
        else:
            size = row.size if truth.kind == "announced" else truth.version
            row = Row(asked_at, "ok", truth.title, size)
        self.rows[media_id] = row

    # What is true after every step

    @invariant()
    def each_delivery_is_counted_once(self) -> None:
        kept = self.read(select(tables.notification.c.event_key, tables.notification.c.deliveries))

        assert dict(map(tuple, kept)) == self.deliveries

    @invariant()
    def the_rows_hold_the_newest_answers(self) -> None:
        media, mezzanine = tables.media, tables.mezzanine
        same = and_(media.c.source == mezzanine.c.source, media.c.media_id == mezzanine.c.media_id)
        columns = (media.c.observed_at, media.c.state, media.c.title, mezzanine.c.size, media.c.deleted_at)

        kept = self.read(select(media.c.media_id, *columns).outerjoin_from(media, mezzanine, same))

        assert {media_id: Row(*values) for media_id, *values in kept} == self.rows

    @invariant()
    def a_live_lease_holds(self) -> None:
        requests = self.requests()
        for media_id, worker in self.holder.items():
            if worker.claim.until > self.now:
                row = requests[media_id]
                assert (row.claim, row.available_at, row.state) == (worker.claim.token, worker.claim.until, "due")

    @invariant()
    def every_medium_is_accounted_for(self) -> None:
        requests = self.requests()
        for media_id in self.asked.keys() - requests.keys():
            assert self.answered[media_id] == self.asked[media_id], f"nobody fetched {media_id} since it was last asked for"
            if self.asked[media_id] > self.asked_before_change[media_id]:
                assert self.is_true(media_id), f"{self.rows[media_id]} is not {self.truth.get(media_id)}"
        for media_id, row in requests.items():
            if row.state != "due":
                assert (row.state, self.buried[media_id]) == ("dead", self.asked[media_id])

    def is_true(self, media_id: str) -> bool:
        row, truth = self.rows[media_id], self.truth.get(media_id, Truth())
        if truth.kind == "gone":
            return row.state in ("missing", "deleted")
        if truth.kind == "silent":
            return False
        if truth.kind == "forbidden":
            return row.state == "forbidden"
        return (row.state, row.title) == ("ok", truth.title) and (truth.kind == "announced" or row.size == truth.version)

    def requests(self) -> dict[str, Any]:
        return {row.media_id: row for row in self.read(select(tables.sync_request))}

    def read(self, statement: Any) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(statement))


def test_no_order_of_events_loses_or_undoes_anything(store: Store) -> None:
    usual = 110 if store.engine.dialect.name == "sqlite" else 20
    examples = int(os.environ.get("VODSYNC_TEST_EXAMPLES", usual))
    run_state_machine_as_test(
        lambda: InboxMachine(store),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
