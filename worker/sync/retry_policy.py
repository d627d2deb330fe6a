"""Decide when a sync request is fetched again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.core.backoff import FULL_JITTER, Backoff
from worker.core.media import Media
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Retry, SyncRequest

#: VOD is still processing an asset in these states (vod-protocol 9.2).
_UNFINISHED_STATES = frozenset({"Uploading", "Transcoding", "Checking"})

#: Reasons of requests for assets that a listing of the library contained.
_LISTING_REASONS = frozenset({"backfill", "reconcile"})

#: Pauses after calls that VOD did not answer.
_BACKOFF = Backoff(first=timedelta(seconds=1), longest=timedelta(minutes=5), jitter=FULL_JITTER)

#: Pauses between fetches while VOD processes an asset.
_FOLLOW_UP = Backoff(first=timedelta(minutes=1), longest=timedelta(hours=6))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after which pauses a request is retried. Every method returns None if the request is not to be retried."""

    #: Failed attempts before a dead letter.
    max_attempts: int = 10
    #: Pauses after calls that VOD did not answer.
    backoff: Backoff = _BACKOFF
    #: No worker calls the source for this long after a throttled call, unless VOD names another time.
    throttle_pause: timedelta = timedelta(seconds=1)
    #: The same after a call that VOD refused because of the credentials.
    credentials_pause: timedelta = timedelta(minutes=1)
    #: A notification can arrive before the data it is about (vod-protocol 2.5). After these pauses an answer without
    #: the asset, without details or without an analysis is taken as final.
    not_final_delays: tuple[timedelta, ...] = tuple(timedelta(seconds=seconds) for seconds in (2, 5, 15, 60, 300))
    #: Pauses between fetches while VOD processes an asset.
    follow_up: Backoff = _FOLLOW_UP
    #: Age of a request at which the follow-up fetches end.
    follow_up_limit: timedelta = timedelta(days=3)

    def retry_after_failure(self, request: SyncRequest, error: str, *, now: datetime) -> Retry | None:
        """Return the retry of a request that VOD did not answer; None after `max_attempts`."""
        if request.attempts + 1 >= self.max_attempts:
            return None
        return Retry(request.media_id, now + self.backoff.delay(request.attempts + 1), error, failed=True)

    def retry_not_final(self, request: SyncRequest, error: str, *, now: datetime, stored: bool = False) -> Retry | None:
        """Return the retry of a request for something that VOD does not show (yet); None if its absence is final.

        `stored`: an earlier answer showed the asset. One answer without it is then not enough, whatever the request's priority.
        """
        if stored and request.priority == BACKFILL and self.not_final_delays:
            # The waits counted so far were for another condition (follow-up fetches), so the count starts again.
            return Retry(request.media_id, now + self.not_final_delays[0], error, waited=True, resets_waits=True, priority=MANUAL)
        if (request.priority != LIVE and not stored) or request.waits >= len(self.not_final_delays):
            return None
        return Retry(request.media_id, now + self.not_final_delays[request.waits], error, waited=True)

    def retry_incomplete(
        self,
        request: SyncRequest,
        media: Media,
        *,
        now: datetime,
        stored: bool = False,
        deleted: bool = False,
        analysis_failed: bool = False,
    ) -> Retry | None:
        """Return the retry of a request for an asset that VOD showed; None if nothing more is expected.

        `stored`: an earlier answer showed the asset. `deleted`: VOD announced its deletion, and no answer has confirmed it.
        `analysis_failed`: VOD announced that it could not analyse the file.
        """
        if not media.has_details:
            retry = self.retry_not_final(request, "VOD returned no details of this asset (yet)", now=now, stored=stored)
            if retry:
                return retry
        if deleted:
            # Without a retry, a deletion that is announced before VOD's own data show it would never be noticed.
            retry = self.retry_not_final(request, "VOD announced the deletion of this asset, but still returns it", now=now)
            if retry:
                return retry
        if not media.is_analysed and not media.is_source_file_deleted and not analysis_failed:
            retry = self.retry_not_final(request, "VOD has not analysed the file yet", now=now)
            if retry:
                return retry
        return self._retry_unfinished(request, media, now=now)

    def _retry_unfinished(self, request: SyncRequest, media: Media, *, now: datetime) -> Retry | None:
        """Return the follow-up fetch of an asset that VOD is still processing."""
        status = media.status if media.status in _UNFINISHED_STATES else media.mezzanine.status if media.mezzanine else None
        if status not in _UNFINISHED_STATES or now - request.requested_at >= self.follow_up_limit:
            return None
        # A follow-up fetch has the priority backfill. With another one, the waits counted so far were for another condition.
        is_first = request.priority != BACKFILL
        pause = self.follow_up.delay(1 if is_first else request.waits + 1)
        if request.reason in _LISTING_REASONS and media.modified_at is not None:
            # No notification announced it. An asset unchanged for a month is unlikely to be finished within a minute.
            pause = min(self.follow_up.longest, max(pause, (now - media.modified_at) / 10))
        error = f"VOD is still processing this asset: {status}"
        return Retry(request.media_id, now + pause, error, waited=True, resets_waits=is_first, priority=BACKFILL)


DEFAULT_RETRY_POLICY = RetryPolicy()
