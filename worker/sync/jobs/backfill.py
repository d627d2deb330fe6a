"""Backfill: list the library page by page, and request the media that are not stored or have changed."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection

from worker.core.wait import Wait
from worker.store.jobs.inventory import Inventory
from worker.store.jobs.job_rows import Job
from worker.store.jobs.seen_media import SeenMedia
from worker.sync.jobs.listing import BACKLOG_PAUSE, MEDIA_TYPES, Listing
from worker.sync.jobs.paging import Cursor, PageResult, begin, time_range
from worker.sync.jobs.pending_fetches import POLL_INTERVAL, PendingFetches
from worker.sync.jobs.step import Progress, Step, from_json, unreadable_counter

KIND = "backfill"


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What is listed: media created from `since` to `until`, of these statuses and types. Empty means all."""

    since: datetime | None = None
    until: datetime | None = None
    statuses: tuple[str, ...] = msgspec.field(name="status", default=())
    media_types: tuple[str, ...] = msgspec.field(name="type", default=())
    #: Only list and count.
    dry_run: bool = False


class CountTotal(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="total"):
    """Count the media at VOD, one type per step, so that an operator sees how much is left."""

    media_types: tuple[str, ...] = msgspec.field(name="types")
    totals: dict[str, int] = {}


class ListMedia(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="list"):
    """List one page per step, one type after the other, and request what is not stored or has changed."""

    media_types: tuple[str, ...] = msgspec.field(name="types")
    media_type: str = msgspec.field(name="type")
    cursor: Cursor = msgspec.field(name="position")


class AwaitFetches(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="fetch"):
    """Wait until all requested media are fetched."""


Checkpoint = CountTotal | ListMedia | AwaitFetches


class Backfill:
    """The phases are CountTotal, ListMedia, AwaitFetches.

    Counters: media in `total` by VOD's count, `listed`, `known` (stored and unchanged), `requested`, `fetched`, `dead` (became dead
    letters).
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def step(self, job: Job, *, now: datetime) -> Step:
        parameters: Parameters = from_json(job.parameters, Parameters, job)
        checkpoint: Checkpoint = _first(parameters) if job.checkpoint is None else from_json(job.checkpoint, Checkpoint, job)
        match checkpoint:
            case CountTotal():
                return self._count_total(job, parameters, checkpoint)
            case ListMedia():
                return self._list(job, parameters, checkpoint, now)
            case AwaitFetches():
                return self._await_fetches(job, parameters, checkpoint)

    def _count_total(self, job: Job, parameters: Parameters, checkpoint: CountTotal) -> Step:
        window = time_range(parameters.since, parameters.until)
        totals = self._listing.count(checkpoint.media_types, window, so_far=checkpoint.totals, statuses=parameters.statuses)
        if isinstance(totals, Wait):
            return Step.to(checkpoint, wait=totals.duration)
        if len(totals) < len(checkpoint.media_types):
            return Step.to(replace(checkpoint, totals=totals))
        first_page = _first_page(job, parameters, checkpoint.media_types, checkpoint.media_types[0])
        return Step.to(first_page, {"total": sum(totals.values())})

    def _list(self, job: Job, parameters: Parameters, checkpoint: ListMedia, now: datetime) -> Step:
        if self._listing.has_backlog(KIND):
            return Step(lambda connection: Progress(checkpoint, _fetched(connection, job)), wait=BACKLOG_PAUSE)
        page = self._listing.page(checkpoint.media_type, checkpoint.cursor, statuses=parameters.statuses)
        if isinstance(page, Wait):
            return Step.to(checkpoint, wait=page.duration)
        following = _after_page(job, parameters, checkpoint, page)

        def write(connection: Connection) -> Progress:
            return Progress(following, self._store_page(connection, job, page, dry_run=parameters.dry_run, now=now))

        return Step(write)

    def _store_page(self, connection: Connection, job: Job, page: PageResult, *, dry_run: bool, now: datetime) -> dict[str, int]:
        """Request what is not stored or has changed. Return what the page adds to the counters."""
        inventory = Inventory(connection, self._listing.source)
        rows = SeenMedia(connection).add(job.id, page.rows)
        new, changed = inventory.compare(rows)
        requests = [*new, *changed]
        counters = {"listed": len(rows), "known": len(rows) - len(requests), "requested": len(requests)}
        counters |= unreadable_counter(page.unreadable)
        if dry_run:
            return counters
        inventory.request(requests, KIND, now=now)
        return counters | _fetched(connection, job, newly_requested=len(requests))

    def _await_fetches(self, job: Job, parameters: Parameters, checkpoint: AwaitFetches) -> Step:
        if parameters.dry_run:
            return Step.to(checkpoint, is_last=True)
        with self._listing.store.reading() as connection:
            pending = PendingFetches.count(connection, job, requested=job.counters.get("requested", 0))
        counters = {"fetched": pending.newly_fetched}
        if pending.left:
            return Step.to(checkpoint, counters, wait=POLL_INTERVAL)
        dead = {"dead": pending.dead} if pending.dead else {}
        return Step.to(checkpoint, counters | dead, is_last=True)


def _first(parameters: Parameters) -> CountTotal:
    return CountTotal(media_types=parameters.media_types or MEDIA_TYPES)


def _first_page(job: Job, parameters: Parameters, media_types: tuple[str, ...], media_type: str) -> ListMedia:
    cursor = begin(parameters.since, parameters.until, now=job.created_at)
    return ListMedia(media_types=media_types, media_type=media_type, cursor=cursor)


def _after_page(job: Job, parameters: Parameters, checkpoint: ListMedia, page: PageResult) -> Checkpoint:
    """Return the next page of the same type, the first page of the next type, or the phase after the last page."""
    if not page.cursor.over:
        return replace(checkpoint, cursor=page.cursor)
    types = checkpoint.media_types
    later_types = types[types.index(checkpoint.media_type) + 1 :]
    return _first_page(job, parameters, types, later_types[0]) if later_types else AwaitFetches()


def _fetched(connection: Connection, job: Job, *, newly_requested: int = 0) -> dict[str, int]:
    requested = job.counters.get("requested", 0) + newly_requested
    return {"fetched": PendingFetches.count(connection, job, requested=requested).newly_fetched}
