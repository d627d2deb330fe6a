"""How long, how often, how fast; and when to ask again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.core.media import BATCH_LIMIT, Media
from worker.store.inbox.sync_requests import BACKFILL, LIVE, MANUAL, Retry, SyncRequest

#: VOD is still at work on a medium in these states (vod-protocol 9.2).
_UNFINISHED = frozenset({"Uploading", "Transcoding", "Checking"})

#: Why a medium was asked for that a walk through the library came across.
_WALKS = frozenset({"backfill", "reconcile"})


@dataclass(frozen=True, slots=True)
class Policy:
    """How a source is asked. `jitter` gives a number between 0 and 1."""

    #: The source whose quota is drawn from: one account and region has one, under however many names. "" is the source's own.
    bucket: str = ""
    limit: int = BATCH_LIMIT
    linger: timedelta = timedelta(milliseconds=250)
    lease: timedelta = timedelta(seconds=60)
    calls_per_second: float = 20
    max_attempts: int = 10
    #: Whether the single-video operation is asked too.
    video_info: bool = False
    #: First and longest pause after a call that VOD did not answer.
    backoff: tuple[timedelta, timedelta] = (timedelta(seconds=1), timedelta(minutes=5))
    #: Nobody calls the source for this long after a throttled call, or one that its credentials do not allow.
    throttle_pause: timedelta = timedelta(seconds=1)
    credentials_pause: timedelta = timedelta(minutes=1)
    #: A notification can be faster than the data it speaks of (vod-protocol 2.5): "there is nothing" counts after these pauses.
    patience: tuple[timedelta, ...] = tuple(timedelta(seconds=seconds) for seconds in (2, 5, 15, 60, 300))
    #: First and longest pause while VOD works on a medium, and the age of the request at which we stop asking.
    follow_up: tuple[timedelta, timedelta] = (timedelta(minutes=1), timedelta(hours=6))
    give_up: timedelta = timedelta(days=3)
    #: Whether changes are written down for the change feed.
    announce: bool = False
    jitter: Callable[[], float] = random.random

    def after_failure(self, request: SyncRequest, error: str, *, now: datetime) -> Retry | None:
        """When to ask again for what VOD did not answer; None where it was asked often enough."""
        if request.attempts + 1 >= self.max_attempts:
            return None
        return Retry(request.media_id, now + self.pause(request.attempts), error, failed=True)

    def pause(self, attempts: int) -> timedelta:
        """How long to leave alone what failed so often before."""
        first, longest = self.backoff
        # Full jitter: workers that failed together do not come back together.
        pause: timedelta = min(longest, first * 2 ** min(attempts, 30)) * self.jitter()
        return pause

    def after_nothing(self, request: SyncRequest, error: str, *, now: datetime, known: bool = False) -> Retry | None:
        """When to ask again for what a notification spoke of and VOD does not show; None where that is the truth by now.

        `known`: we have it from an earlier answer, so that one answer without it is not believed, whoever asked.
        """
        if known and request.priority == BACKFILL and self.patience:
            # What it waited for in this lane was something else.
            return Retry(request.media_id, now + self.patience[0], error, waited=True, resets_waits=True, priority=MANUAL)
        if (request.priority != LIVE and not known) or request.waits >= len(self.patience):
            return None
        return Retry(request.media_id, now + self.patience[request.waits], error, waited=True)

    def after_answer(
        self,
        request: SyncRequest,
        media: Media,
        *,
        now: datetime,
        failed: bool = False,
        deleted: bool = False,
        known: bool = False,
    ) -> Retry | None:
        """When to ask again for a medium that VOD showed; None where nothing more is to come.

        `failed`: its analysis did. `deleted`: VOD told us so. `known`: we have it from an earlier answer.
        """
        if not media.described:
            later = self.after_nothing(request, "VOD says nothing of this medium (yet)", now=now, known=known)
            if later:
                return later
        if deleted:
            # Left at that, a deletion that is faster than VOD's own data would never be noticed.
            later = self.after_nothing(request, "VOD told that this is deleted, and shows it (still)", now=now)
            if later:
                return later
        if not media.analysed and not media.source_deleted and not failed:
            later = self.after_nothing(request, "VOD has not looked into the file yet", now=now)
            if later:
                return later
        status = media.status if media.status in _UNFINISHED else media.mezzanine.status if media.mezzanine else None
        if status not in _UNFINISHED or now - request.requested_at >= self.give_up:
            return None
        first, longest = self.follow_up
        pause: timedelta = first * 2 ** min(request.waits, 30)
        if request.reason in _WALKS and media.modified_at is not None:
            # Nobody told of it; what has rested for a month will hardly be done in a minute.
            pause = max(pause, (now - media.modified_at) / 10)
        pause = min(longest, pause)
        return Retry(request.media_id, now + pause, f"VOD is still at work: {status}", waited=True, priority=BACKFILL)


STANDARD = Policy()
