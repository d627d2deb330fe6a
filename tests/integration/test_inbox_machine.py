"""Workers that overlap, die and continue late, in random orders of Hypothesis: nothing is lost, and no row goes back.

The state machine sets the clock. Each batch is divided into claim, fetch and store, so that several run at the same time.
VODSYNC_TEST_EXAMPLES=2000 runs more examples.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
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

from tests.builders import NOON, announced, body, element
from tests.inbox_model import API_ERRORS, EVENTS, HIDDEN, KINDS, MEDIA_IDS, SETTINGS, WORKERS, Row, Truth, Worker
from worker.core import events
from worker.store import Store, tables
from worker.store.inbox.sync_requests import BACKFILL, MANUAL, Request, SyncRequests
from worker.sync import batch
from worker.sync.fetch import Fetcher, FetchResult
from worker.sync.receive import delivery, receive
from worker.sync.source_context import SourceContext
from worker.vod.testing import FakeVod


class InboxMachine(RuleBasedStateMachine):
    """Receivers, workers and VOD do one step at a time. A model describes the expected rows of the database."""

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
        self.count = self.completed_at = 0
        self.truth: dict[str, Truth] = {}
        self.deliveries: Counter[str] = Counter()
        #: When each asset was deleted, and when its notification arrived.
        self.deletions: dict[str, tuple[datetime, datetime]] = {}
        #: How often each asset was requested: in total, before VOD last changed it, before the answered claim, and before it became
        #: a dead letter.
        self.requested: Counter[str] = Counter()
        self.requested_before_change: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.dead_lettered: dict[str, int] = {}
        self.workers: dict[int, Worker] = {}
        self.lease_holders: dict[str, Worker] = {}
        self.rows: dict[str, Row] = {}
        for media_id in ("a", "b"):
            self.vod_changes(media_id, "final", event="TranscodeComplete")

    # Steps of VOD

    @rule(media_id=MEDIA_IDS, kind=st.sampled_from(KINDS), event=st.sampled_from([None, *EVENTS]))
    def vod_changes(self, media_id: str, kind: str, event: str | None) -> None:
        """Change an asset, with or without a notification. A hidden asset returns unchanged."""
        self.count += 1
        old = self.truth.get(media_id, Truth())
        truth = self.truth[media_id] = Truth(kind, old.version if old.kind in HIDDEN or kind in HIDDEN else self.count)
        self.requested_before_change[media_id] = self.requested[media_id]
        self.vod.media.pop(media_id, None)
        for hidden in (self.vod.forbidden, self.vod.omitted):
            hidden.discard(media_id)
        if kind in ("final", "transcoding"):
            vod_element = element(media_id, Title=truth.title, Status="Normal" if kind == "final" else "Transcoding")
            vod_element["MezzanineInfo"]["Size"] = truth.version
            self.vod.put(vod_element)
        elif kind == "announced":
            self.vod.put(announced(media_id, Title=truth.title))
        elif kind == "forbidden":
            self.vod.forbidden.add(media_id)
        elif kind == "silent":
            self.vod.omitted.add(media_id)
        if event:
            self.deliver([self.notification(media_id, event)])

    @rule(
        target=sent, media_ids=st.lists(MEDIA_IDS, min_size=1, max_size=3), event=st.sampled_from(list(EVENTS)), twice=st.booleans()
    )
    def vod_notifies(self, media_ids: list[str], event: str, twice: bool) -> MultipleResults[events.Notification]:
        notifications = [self.notification(media_id, event) for media_id in media_ids]
        self.deliver(notifications + notifications[:1] if twice else notifications)
        return multiple(*notifications)

    @rule(old=sent, other=sent, media_id=MEDIA_IDS)
    def vod_notifies_again(self, old: events.Notification, other: events.Notification, media_id: str) -> None:
        """In one commit with a new notification, as a receiver groups them."""
        self.deliver([old, self.notification(media_id, "TranscodeComplete"), other])

    @rule(error=st.sampled_from(list(API_ERRORS)))
    def vod_fails(self, error: str) -> None:
        self.vod.fail(*API_ERRORS[error])

    # Steps of vodsync

    @rule(media_id=MEDIA_IDS, priority=st.sampled_from([MANUAL, BACKFILL]), pause=st.sampled_from([0, 30]))
    def a_request_is_made(self, media_id: str, priority: int, pause: int) -> None:
        wanted = Request("default", media_id, "test", priority, self.now + timedelta(seconds=pause))
        self.store.transact(lambda connection: SyncRequests(connection).request([wanted], now=self.now))
        self.requested[media_id] += 1

    @rule(seconds=st.sampled_from([0, 0, 1, 5, 30, 61, 600]), numbers=st.lists(st.integers(1, WORKERS), min_size=1, max_size=6))
    def time_passes_and_workers_advance(self, seconds: int, numbers: list[int]) -> None:
        """Each of these workers does its next step: claim, fetch or store."""
        self.now += timedelta(seconds=seconds)
        for number in numbers:
            self.advance(number)

    @rule(number=st.integers(1, WORKERS))
    def a_worker_dies(self, number: int) -> None:
        self.workers.pop(number, None)

    @precondition(lambda self: self.count > self.completed_at + 30)
    @rule()
    def all_requests_are_completed(self) -> None:
        """Another worker completes everything that is due. Slow workers may continue later."""
        self.completed_at = self.count
        for _ in range(100):
            pending = [row.available_at for row in self.requests().values() if row.state == "due"]
            if not pending:
                return
            self.now = max(self.now, *pending)
            for _ in ("claim", "fetch", "store"):
                self.advance(WORKERS + 1)
        raise AssertionError("requests are still due after 100 batches")

    def advance(self, number: int) -> None:
        worker = self.workers.get(number)
        if not worker:
            self.claim(number)
        elif not worker.fetched:
            self.fetch(worker)
        else:
            self.finish(worker, worker.fetched)

    def notification(self, media_id: str, event: str) -> events.Notification:
        self.count += 1
        fields = {"EventTime": f"{self.now:%Y-%m-%dT%H:%M:%SZ}", "Extend": str(self.count)} | EVENTS[event]
        return events.parse(body(media_id, event, **fields))

    def deliver(self, notifications: list[events.Notification]) -> None:
        new = {item.event_key: item for item in notifications if item.event_key not in self.deliveries}
        deliveries = [delivery("default", item, received_at=self.now) for item in notifications]

        new_count = receive(self.store, deliveries, now=self.now)

        assert new_count == len(new)
        self.deliveries.update(item.event_key for item in notifications)
        for media_id in {media_id for item in new.values() for media_id in item.media_ids}:
            self.requested[media_id] += 1
        for item in new.values():
            if item.is_deletion and item.event_time:
                self.deletions |= dict.fromkeys(item.media_ids, (item.event_time, self.now))

    def claim(self, number: int) -> None:
        due = {media_id for media_id, row in self.requests().items() if row.state == "due" and row.available_at <= self.now}

        result: Any = self.store.transact(lambda connection: batch.claim_batch(connection, self.context, self.now))

        if result is None:
            assert not due
            return
        claim, slot = result
        assert set(claim.media_ids) <= due
        assert len(claim.media_ids) == len(set(claim.media_ids)) == min(len(due), SETTINGS.batch_size)
        for other in self.workers.values():
            still_leased = {media_id for media_id in other.claim.media_ids if self.lease_holders.get(media_id) is other}
            assert other.claim.until <= self.now or not still_leased & set(claim.media_ids), "two live leases for one asset"
        worker = Worker(number, self.now, claim, slot, {media_id: self.requested[media_id] for media_id in claim.media_ids})
        self.workers[number] = worker
        self.lease_holders |= dict.fromkeys(claim.media_ids, worker)

    def fetch(self, worker: Worker) -> None:
        fetcher = Fetcher(self.store, self.context, worker.claim, sleep=lambda seconds: None)
        worker.fetched = fetcher.fetch(worker.claim.media_ids, worker.slot)
        for answer, observed_at in worker.fetched.answers:
            for media_id in {media.media_id for media in answer.media} | answer.missing | answer.forbidden:
                worker.answers[media_id] = self.truth.get(media_id, Truth()), observed_at

    def finish(self, worker: Worker, fetched: FetchResult) -> None:
        before = self.requests()

        self.store.transact(lambda connection: batch.store_results(connection, self.context, worker.claim, fetched, now=worker.now))

        after = self.requests()
        leased = {media_id for media_id in worker.claim.media_ids if self.lease_holders.get(media_id) is worker}
        for media_id in before.keys() | after.keys():
            if media_id not in leased:
                assert after.get(media_id) == before.get(media_id), f"{worker} changed {media_id}, whose lease it does not have"
        for media_id in leased:
            row = after.get(media_id)
            if self.requested[media_id] > worker.requested[media_id]:
                assert row, f"the request for {media_id} during the fetch is lost"
                assert (row.state, row.claim, row.available_at <= self.now) == ("due", None, True)
            elif row is None:
                assert media_id in worker.answers, f"{media_id} was completed without an answer"
            else:
                assert row.claim is None
                if row.state == "dead":
                    self.dead_lettered[media_id] = worker.requested[media_id]
            del self.lease_holders[media_id]
        for media_id in worker.answers:
            self.learn(worker, media_id)
        del self.workers[worker.number]

    def learn(self, worker: Worker, media_id: str) -> None:
        """Put one answer into the model unless the model has a newer one."""
        self.answered[media_id] = max(self.answered[media_id], worker.requested[media_id])
        truth, observed_at = worker.answers[media_id]
        row = self.rows.get(media_id)
        if row and row.observed_at >= observed_at:
            return
        row = replace(row, observed_at=observed_at) if row else Row(observed_at, "new")
        if truth.kind == "gone":
            (request,) = (item for item in worker.claim.requests if item.media_id == media_id)
            deleted_at, reported_at = self.deletions.get(media_id, (None, None))
            if reported_at and (row.state in ("new", "deleted") or reported_at >= request.requested_at):
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
            row = Row(observed_at, "ok", truth.title, size)
        self.rows[media_id] = row

    # True after every step

    @invariant()
    def each_delivery_is_counted_once(self) -> None:
        stored = self.read(select(tables.notification.c.event_key, tables.notification.c.deliveries))

        assert dict(map(tuple, stored)) == self.deliveries

    @invariant()
    def the_rows_hold_the_newest_answers(self) -> None:
        media, mezzanine = tables.media, tables.mezzanine
        same = and_(media.c.source == mezzanine.c.source, media.c.media_id == mezzanine.c.media_id)
        columns = (media.c.observed_at, media.c.state, media.c.title, mezzanine.c.size, media.c.deleted_at)

        stored = self.read(select(media.c.media_id, *columns).outerjoin_from(media, mezzanine, same))

        assert {media_id: Row(*values) for media_id, *values in stored} == self.rows

    @invariant()
    def a_live_lease_is_kept(self) -> None:
        requests = self.requests()
        for media_id, worker in self.lease_holders.items():
            if worker.claim.until > self.now:
                row = requests[media_id]
                assert (row.claim, row.available_at, row.state) == (worker.claim.token, worker.claim.until, "due")

    @invariant()
    def every_asset_is_accounted_for(self) -> None:
        requests = self.requests()
        for media_id in self.requested.keys() - requests.keys():
            assert self.answered[media_id] == self.requested[media_id], f"{media_id} was not fetched after its last request"
            if self.requested[media_id] > self.requested_before_change[media_id]:
                assert self.is_true(media_id), f"{self.rows[media_id]} is not {self.truth.get(media_id)}"
        for media_id, row in requests.items():
            if row.state != "due":
                assert (row.state, self.dead_lettered[media_id]) == ("dead", self.requested[media_id])

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


def test_no_order_of_events_loses_or_reverts_anything(store: Store) -> None:
    default = 110 if store.engine.dialect.name == "sqlite" else 20
    examples = int(os.environ.get("VODSYNC_TEST_EXAMPLES", default))
    run_state_machine_as_test(
        lambda: InboxMachine(store),  # type: ignore[arg-type]  # any factory works; the annotation requires the class
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
