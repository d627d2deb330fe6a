"""List all kinds of jobs."""

from __future__ import annotations

from collections.abc import Mapping

from worker.sync.jobs import backfill, reconcile, renormalise, replay
from worker.sync.jobs.backfill import Backfill
from worker.sync.jobs.listing import Listing
from worker.sync.jobs.reconcile import Reconcile
from worker.sync.jobs.renormalise import Renormalise
from worker.sync.jobs.replay import Replay
from worker.sync.jobs.step import Kind
from worker.sync.source_context import SyncSettings


def kinds_of(listing: Listing, settings: SyncSettings, *, most_deleted_percent: float) -> Mapping[str, Kind]:
    """Return every kind of job for the source of `listing`, by the name that is stored in vod_job.kind."""
    store, source = listing.store, listing.source
    return {
        backfill.KIND: Backfill(listing),
        reconcile.KIND: Reconcile(listing, settings, most_deleted_percent=most_deleted_percent),
        renormalise.KIND: Renormalise(store, source, announce=settings.announce),
        replay.KIND: Replay(store, source),
    }
