"""Define the parameters and the phases of a reconciliation: the JSON of vod_job.parameters and vod_job.checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from worker.core.media import BATCH_LIMIT
from worker.sync.jobs.paging import Cursor

#: Media ids that the checkpoint names for each counter.
_MAX_EXAMPLES = 5


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator or the schedule has asked for."""

    #: List everything, not only what changed since the last run.
    full: bool = False
    #: Mark as deleted even if more media are gone than VODSYNC_MOST_DELETED_PERCENT allows.
    allow_mass_delete: bool = False
    #: Only list and count.
    dry_run: bool = False


class Examples(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first ids that each counter has counted, for the operator."""

    missed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def add(self, *, missed: Sequence[str] = (), changed: Sequence[str] = (), gone: Sequence[str] = ()) -> Examples:
        return Examples(
            (*self.missed, *missed)[:_MAX_EXAMPLES],
            (*self.changed, *changed)[:_MAX_EXAMPLES],
            (*self.gone, *gone)[:_MAX_EXAMPLES],
        )


class _Phase(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase"):
    examples: Examples = Examples()


class CountTotal(_Phase, frozen=True, kw_only=True, tag="total"):
    """Count the media of a full listing, one type per step, so that an operator sees how much is left."""

    totals: dict[str, int] = {}
    #: Always null. Release 0.1 reads this key.
    since: None = None


class ListMedia(_Phase, frozen=True, kw_only=True, tag="list"):
    """List one page per step, one type after the other, and request what is missing or has changed.

    `since` is None in a full listing. Otherwise only media that changed since then are listed.
    """

    since: datetime | None = None
    media_type: str = msgspec.field(name="type")
    cursor: Cursor = msgspec.field(name="position")


class AwaitFetches(_Phase, frozen=True, kw_only=True, tag="settle"):  # stored name, kept for upgrades
    """Wait until what was requested is fetched. Otherwise media that are not stored yet would hide deleted ones from the count."""


class CompareCounts(_Phase, frozen=True, kw_only=True, tag="count"):
    """Compare VOD's count, one type per step, with the number of stored assets. A listing of changes does not show deletions."""

    totals: dict[str, int] = {}


class FindSuspects(_Phase, frozen=True, kw_only=True, tag="compare"):
    """Find the stored assets that a full listing did not show, in whatever order it came."""

    #: The last asset that was compared.
    after: str = msgspec.field(name="compared", default="")


class VerifySuspects(_Phase, frozen=True, kw_only=True, tag="ask"):  # stored name, kept for upgrades
    """Fetch the suspects from VOD: an asset that a listing does not show may still exist."""

    #: Suspects per call; smaller after a call that VOD refused.
    limit: int = BATCH_LIMIT
    #: The time of the first call.
    first_call_at: datetime | None = msgspec.field(name="asked_at", default=None)


class MarkDeleted(_Phase, frozen=True, kw_only=True, tag="mark"):
    """Mark the assets that are gone as deleted, unless VOD showed them after the first call for suspects."""

    first_call_at: datetime | None = msgspec.field(name="asked_at", default=None)


class AwaitLastFetches(_Phase, frozen=True, kw_only=True, tag="fetch"):
    """Wait until everything that was requested is fetched, then end the job."""


Checkpoint = CountTotal | ListMedia | AwaitFetches | CompareCounts | FindSuspects | VerifySuspects | MarkDeleted | AwaitLastFetches
