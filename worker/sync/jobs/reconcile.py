"""Reconcile a source with VOD: request media that are missing or have changed, and mark those that are gone as deleted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace
from sqlalchemy import Connection

from worker.core.wait import Wait
from worker.store.jobs.inventory import Inventory
from worker.store.jobs.job_rows import Job, Jobs
from worker.store.jobs.seen_media import SeenMedia
from worker.store.jobs.suspects import Suspects
from worker.sync.jobs.listing import BACKLOG_PAUSE, MEDIA_TYPES, Listing
from worker.sync.jobs.paging import INDEX_DELAY, PageResult, begin, time_range
from worker.sync.jobs.pending_fetches import POLL_INTERVAL, PendingFetches
from worker.sync.jobs.reconcile_phases import (
    AwaitFetches,
    AwaitLastFetches,
    Checkpoint,
    CompareCounts,
    CountTotal,
    Examples,
    FindSuspects,
    ListMedia,
    MarkDeleted,
    Parameters,
    VerifySuspects,
)
from worker.sync.jobs.step import JobRefusedError, Progress, Step, from_json, unreadable_counter
from worker.sync.jobs.suspect_calls import SuspectCalls, SuspectResult
from worker.sync.source_context import SyncSettings

KIND = "reconcile"

#: Stored assets that are compared with the listing in one transaction.
COMPARED_PER_STEP = 1_000

#: Assets that are marked as deleted in one transaction.
MARKED_PER_STEP = 200

_WHOLE_LIBRARY = time_range(None, None)


@dataclass(frozen=True, slots=True)
class _Run:
    """What every step of a job needs beside its checkpoint."""

    job: Job
    parameters: Parameters
    now: datetime

    @property
    def failing_for(self) -> timedelta:
        """How long no step of the job has worked; zero if the last one did."""
        return timedelta(0) if self.job.last_error is None else self.now - self.job.updated_at


class Reconcile:
    """The phases of a full run and of an incremental one, which lists what changed since the last run began:

    full:        CountTotal, ListMedia, FindSuspects, VerifySuspects, MarkDeleted, AwaitLastFetches
    incremental: ListMedia, AwaitFetches, CompareCounts, then AwaitLastFetches; or a full run if VOD has fewer media than are stored

    Until one run is done, every run is a full one. `most_deleted_percent` limits how many assets one run marks as deleted.

    Counters: media in `total` by VOD's count (of a full listing), `listed`, `missed` (not stored), `changed`, `fetched`,
    `suspected`, `gone`, `deleted`, `dead` (dead letters). The checkpoint has `examples` of them.
    """

    def __init__(self, listing: Listing, settings: SyncSettings, *, most_deleted_percent: float) -> None:
        self._listing = listing
        self._settings = settings
        self._most_deleted_percent = most_deleted_percent
        self._suspect_calls = SuspectCalls(listing, settings)

    def step(self, job: Job, *, now: datetime) -> Step:
        run = _Run(job, from_json(job.parameters, Parameters, job), now)
        checkpoint: Checkpoint = self._first(run) if job.checkpoint is None else from_json(job.checkpoint, Checkpoint, job)
        match checkpoint:
            case CountTotal():
                return self._count_total(run, checkpoint)
            case ListMedia():
                return self._list(run, checkpoint)
            case AwaitFetches():
                return self._await_fetches(run, checkpoint)
            case CompareCounts():
                return self._compare_counts(run, checkpoint)
            case FindSuspects():
                return self._find_suspects(run, checkpoint)
            case VerifySuspects():
                return self._verify_suspects(run, checkpoint)
            case MarkDeleted():
                return self._mark_deleted(run, checkpoint)
            case AwaitLastFetches():
                return self._await_last_fetches(run, checkpoint)

    def _first(self, run: _Run) -> Checkpoint:
        if run.parameters.full:
            return CountTotal()
        with self._listing.store.reading() as connection:
            last_run = Jobs(connection).last_done(self._listing.source, KIND, dry_run=False)
        if last_run is None:
            return CountTotal()
        return _first_page(run, MEDIA_TYPES[0], since=last_run.created_at - INDEX_DELAY, examples=Examples())

    def _count_total(self, run: _Run, checkpoint: CountTotal) -> Step:
        totals = self._listing.count(MEDIA_TYPES, _WHOLE_LIBRARY, so_far=checkpoint.totals)
        if isinstance(totals, Wait):
            return Step.to(checkpoint, wait=totals.duration)
        if len(totals) < len(MEDIA_TYPES):
            return Step.to(replace(checkpoint, totals=totals))
        first_page = _first_page(run, MEDIA_TYPES[0], since=None, examples=checkpoint.examples)
        return Step.to(first_page, {"total": sum(totals.values())})

    def _list(self, run: _Run, checkpoint: ListMedia) -> Step:
        if self._listing.has_backlog(KIND):
            return Step.to(checkpoint, wait=BACKLOG_PAUSE)
        by_modification = checkpoint.since is not None
        page = self._listing.page(checkpoint.media_type, checkpoint.cursor, by_modification=by_modification)
        if isinstance(page, Wait):
            return Step.to(checkpoint, wait=page.duration)
        return Step(lambda connection: self._store_page(connection, run, checkpoint, page))

    def _store_page(self, connection: Connection, run: _Run, checkpoint: ListMedia, page: PageResult) -> Progress:
        inventory = Inventory(connection, self._listing.source)
        is_full = checkpoint.since is None
        rows = SeenMedia(connection).add(run.job.id, page.rows)
        new, changed = inventory.compare(rows, include_forbidden=is_full, by_modification=not is_full)
        if not run.parameters.dry_run:
            inventory.request([*new, *changed], KIND, now=run.now)
        examples = checkpoint.examples.add(missed=new, changed=changed)
        counters = {"listed": len(rows), "missed": len(new), "changed": len(changed)}
        counters |= unreadable_counter(page.unreadable)
        return Progress(_after_page(run, checkpoint, page, examples), counters)

    def _await_fetches(self, run: _Run, checkpoint: AwaitFetches) -> Step:
        if run.parameters.dry_run:
            return Step.to(CompareCounts(examples=checkpoint.examples))
        pending = self._pending(run)
        counters = {"fetched": pending.newly_fetched}
        if pending.left:
            return Step.to(checkpoint, counters, wait=POLL_INTERVAL)
        return Step.to(CompareCounts(examples=checkpoint.examples), counters)

    def _compare_counts(self, run: _Run, checkpoint: CompareCounts) -> Step:
        totals = self._listing.count(MEDIA_TYPES, _WHOLE_LIBRARY, so_far=checkpoint.totals)
        if isinstance(totals, Wait):
            return Step.to(checkpoint, wait=totals.duration)
        if len(totals) < len(MEDIA_TYPES):
            return Step.to(replace(checkpoint, totals=totals))
        with self._listing.store.reading() as connection:
            present = Inventory(connection, self._listing.source).count_present()
        if run.parameters.dry_run:
            # A dry run has not stored what it missed.
            present += run.job.counters.get("missed", 0)
        if present > sum(totals.values()):
            return Step.to(CountTotal(examples=checkpoint.examples))
        return Step.to(AwaitLastFetches(examples=checkpoint.examples))

    def _find_suspects(self, run: _Run, checkpoint: FindSuspects) -> Step:
        with self._listing.store.reading() as connection:
            last = Suspects(connection, self._listing.source).page_end(checkpoint.after, COMPARED_PER_STEP)
        following = VerifySuspects(examples=checkpoint.examples) if last is None else replace(checkpoint, after=last)

        def write(connection: Connection) -> Progress:
            suspects = Suspects(connection, self._listing.source)
            if not checkpoint.after:
                suspects.clear()
            added = suspects.add(run.job.id, checkpoint.after, last, created_before=run.job.created_at)
            return Progress(following, {"suspected": added})

        return Step(write)

    def _verify_suspects(self, run: _Run, checkpoint: VerifySuspects) -> Step:
        with self._listing.store.reading() as connection:
            media_ids = Suspects(connection, self._listing.source).unverified(checkpoint.limit)
        if not media_ids:
            return Step.to(MarkDeleted(examples=checkpoint.examples, first_call_at=checkpoint.first_call_at))
        result = self._suspect_calls.fetch(media_ids, failing_for=run.failing_for)
        if isinstance(result, Wait):
            return Step.to(checkpoint, wait=result.duration)
        if result is None:
            return Step.to(replace(checkpoint, limit=len(media_ids) // 2))
        return Step(lambda connection: self._store_verified(connection, run, checkpoint, result))

    def _store_verified(self, connection: Connection, run: _Run, checkpoint: VerifySuspects, result: SuspectResult) -> Progress:
        self._suspect_calls.store_rate(connection, result)
        suspects = Suspects(connection, self._listing.source)
        suspects.confirm_gone(result.gone)
        suspects.confirm_present(result.present)
        if not run.parameters.dry_run:
            Inventory(connection, self._listing.source).request(result.present, KIND, now=run.now)
        # The limit is the usual one again.
        following = VerifySuspects(
            examples=checkpoint.examples.add(gone=sorted(result.gone)),
            first_call_at=checkpoint.first_call_at or result.slot.at,
        )
        return Progress(following, {"gone": len(result.gone)})

    def _mark_deleted(self, run: _Run, checkpoint: MarkDeleted) -> Step:
        with self._listing.store.reading() as connection:
            gone = Suspects(connection, self._listing.source).count_gone()
            present = Inventory(connection, self._listing.source).count_present()
        first_call_at = checkpoint.first_call_at
        if not gone or first_call_at is None or run.parameters.dry_run:
            return Step.to(AwaitLastFetches(examples=checkpoint.examples))
        self._refuse_mass_delete(run, checkpoint.examples, gone=gone, present=present)

        def write(connection: Connection) -> Progress:
            suspects = Suspects(connection, self._listing.source, announce=self._settings.announce)
            return Progress(checkpoint, {"deleted": len(suspects.mark_deleted(MARKED_PER_STEP, observed_at=first_call_at))})

        return Step(write)

    def _refuse_mass_delete(self, run: _Run, examples: Examples, *, gone: int, present: int) -> None:
        """Raise JobRefusedError if the share of assets that are gone, marked ones included, is above the limit."""
        marked = run.job.counters.get("deleted", 0)
        is_allowed = (gone + marked) * 100 <= self._most_deleted_percent * (present + marked)
        if is_allowed or run.parameters.allow_mass_delete:
            return
        raise JobRefusedError(
            f"{gone} of {present} media are gone at VOD, more than {self._most_deleted_percent:g} % "
            f"(VODSYNC_MOST_DELETED_PERCENT), such as {', '.join(examples.gone)}; none was marked as deleted. If that is right: "
            "vodsync reconcile --full --allow-mass-delete"
        )

    def _await_last_fetches(self, run: _Run, checkpoint: AwaitLastFetches) -> Step:
        if run.parameters.dry_run:
            return Step.to(checkpoint, is_last=True)
        pending = self._pending(run)
        counters = {"fetched": pending.newly_fetched}
        if pending.left:
            return Step.to(checkpoint, counters, wait=POLL_INTERVAL)
        dead = {"dead": pending.dead} if pending.dead else {}
        return Step.to(checkpoint, counters | dead, is_last=True)

    def _pending(self, run: _Run) -> PendingFetches:
        requested = run.job.counters.get("missed", 0) + run.job.counters.get("changed", 0)
        with self._listing.store.reading() as connection:
            return PendingFetches.count(connection, run.job, requested=requested)


def _first_page(run: _Run, media_type: str, *, since: datetime | None, examples: Examples) -> ListMedia:
    cursor = begin(since, None, now=run.job.created_at)
    return ListMedia(since=since, media_type=media_type, cursor=cursor, examples=examples)


def _after_page(run: _Run, checkpoint: ListMedia, page: PageResult, examples: Examples) -> Checkpoint:
    """Return the next page of the same type, the first page of the next type, or the phase after the last page."""
    if not page.cursor.over:
        return replace(checkpoint, cursor=page.cursor, examples=examples)
    later_types = MEDIA_TYPES[MEDIA_TYPES.index(checkpoint.media_type) + 1 :]
    if later_types:
        return _first_page(run, later_types[0], since=checkpoint.since, examples=examples)
    return FindSuspects(examples=examples) if checkpoint.since is None else AwaitFetches(examples=examples)
