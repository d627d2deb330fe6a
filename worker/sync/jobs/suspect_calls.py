"""Fetch suspects from VOD, and decide which of them are gone and when to fetch fewer at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from worker.core.errors import VodCredentialsError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.core.wait import Wait
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter, Slot
from worker.sync.fetch import back_off, get_media_infos, record_late_start
from worker.sync.jobs.listing import MAX_SLOT_WAIT, Listing
from worker.sync.rate_limit import acquire
from worker.sync.source_context import SyncSettings

#: While calls have failed for less than this, that is taken for an outage of VOD, and the call is repeated. After that, one of its
#: ids is the likely cause.
MAX_OUTAGE = timedelta(seconds=10)

#: The same for a call with one id. After that the suspect is left to the next run.
MAX_OUTAGE_OF_ONE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class SuspectResult:
    """VOD's answer about suspects: those `gone`, and those that are `present` or not known to be gone."""

    gone: frozenset[str]
    present: frozenset[str]
    slot: Slot
    #: When the call started if it was late for its slot, by the time of the slot.
    late: Mapping[datetime, datetime]


class SuspectCalls:
    """Calls of BatchGetMediaInfos for suspects, within the rate limit of the account."""

    def __init__(self, listing: Listing, settings: SyncSettings) -> None:
        self._listing = listing
        self._settings = settings
        self._rate_limit_name = settings.rate_limit_name or listing.source

    def fetch(self, media_ids: list[str], *, failing_for: timedelta) -> SuspectResult | Wait | None:
        """Fetch the suspects in one call. `failing_for` is how long the calls of this job have failed, zero if the last one worked.

        Returns None if one of several ids is the likely cause of an error: fetch fewer. Returns a Wait if the rate limit allows no
        call now. Raises VodThrottledError, VodCredentialsError and VodUnavailableError if the call must be repeated.
        """
        rate, sleep = self._settings.calls_per_second, self._listing.sleep
        slot = acquire(
            self._listing.store, self._rate_limit_name, BATCH_GET_MEDIA_INFOS, per_second=rate, max_wait=MAX_SLOT_WAIT, sleep=sleep
        )
        if isinstance(slot, Wait):
            return slot
        sleep(slot.wait.total_seconds())
        late: dict[datetime, datetime] = {}
        try:
            with record_late_start(self._listing.vod, slot, late):
                missing = get_media_infos(self._listing.vod, media_ids, []).missing
        except (VodThrottledError, VodCredentialsError) as error:
            back_off(self._listing.store, self._rate_limit_name, BATCH_GET_MEDIA_INFOS, error, self._settings.retry)
            raise
        except (VodRefusedError, VodUnavailableError) as error:
            if _may_be_outage(error, media_ids, failing_for):
                raise
            if _is_nothing_found(error):
                missing = frozenset(media_ids)
            elif len(media_ids) > 1:
                return None
            else:
                # Not known to be gone. The sync request stored for it finds out what is wrong, as with any other asset.
                missing = frozenset()
        gone = missing & set(media_ids)
        return SuspectResult(gone, frozenset(media_ids) - gone, slot, late)

    def store_rate(self, connection: Connection, result: SuspectResult) -> None:
        """Store in the rate limit that the call worked, and when it started."""
        limiter = RateLimiter(connection)
        if result.slot.probing:
            limiter.clear_error(self._rate_limit_name, BATCH_GET_MEDIA_INFOS)
        limiter.adjust_started(self._rate_limit_name, BATCH_GET_MEDIA_INFOS, result.late)


def _may_be_outage(error: VodRefusedError | VodUnavailableError, media_ids: list[str], failing_for: timedelta) -> bool:
    """Return whether to repeat the call: the fewer its ids, the longer a failure is taken for an outage."""
    longest = MAX_OUTAGE if len(media_ids) > 1 else MAX_OUTAGE_OF_ONE
    return isinstance(error, VodUnavailableError) and failing_for < longest


def _is_nothing_found(error: VodRefusedError | VodUnavailableError) -> bool:
    """Return whether VOD knows none of the ids (vod-protocol 4.4)."""
    return isinstance(error, VodRefusedError) and error.code == "InvalidVideo.NotFound"
