"""Call GetVideoInfo for the review result and the bucket's region, which no other operation returns (VODSYNC_VIDEO_INFO=on).

The transaction that stores a batch enqueues the calls. A thread of its own makes them afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from sqlalchemy import Connection

from worker import logs
from worker.core.errors import (
    StoreUnavailableError,
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.core.media import VideoInfo
from worker.core.normalise import read_video_info
from worker.core.wait import Wait
from worker.store import Store
from worker.store.catalogue.assets import Catalogue
from worker.store.inbox.sync_requests import BACKFILL
from worker.store.inbox.video_info_queue import PendingVideoInfo, RetryAt, VideoInfoClaim, VideoInfoQueue
from worker.store.rate_limit import RateLimiter, Slot
from worker.sync.fetch import back_off
from worker.sync.retry_policy import RetryPolicy
from worker.sync.source_context import SourceContext
from worker.vod import Vod

log = logs.get(__name__)

GET_VIDEO_INFO = "GetVideoInfo"

CALLS_PER_SECOND = 100.0  # VOD's limit for the account (vod-protocol 5)

CLAIM_SIZE = 20  # assets
PARALLEL_CALLS = 4

#: The call for an asset is given up after this time, until the asset is fetched again.
GIVE_UP_AFTER = timedelta(days=3)

#: The result of one call; None if the call was not made.
CallResult = VideoInfo | VodError | None


@dataclass(slots=True)
class VideoInfoResult:
    """How many assets were claimed and what became of them. `wait`: nothing was claimed, but a call is possible after this time."""

    claimed: int = 0
    saved: int = 0
    retried: int = 0
    given_up: int = 0
    wait: timedelta | None = None


def fetch_video_infos(
    store: Store, context: SourceContext, *, now: datetime, stopping: threading.Event | None = None
) -> VideoInfoResult:
    """Call GetVideoInfo for up to 20 pending assets of one source, and store `audit_status`, `region_id` and the answer.

    Raises StoreUnavailableError; the calls then become due again when the lease expires.
    """
    claimed = store.transact(lambda connection: _claim(connection, context, now))
    if claimed is None:
        return VideoInfoResult()
    if isinstance(claimed, Wait):
        return VideoInfoResult(wait=claimed.duration)
    claim, slot = claimed
    started = time.monotonic()
    calls = _Calls(store, context, claim, slot, stopping or threading.Event())
    with ThreadPoolExecutor(PARALLEL_CALLS, thread_name_prefix=f"{GET_VIDEO_INFO} {context.source}") as pool:
        results: dict[str, CallResult] = dict(zip(claim.media_ids, pool.map(calls.call, range(len(claim.pending))), strict=True))
    # In whole seconds: only a call that timed out makes a difference.
    now += timedelta(seconds=int(time.monotonic() - started))
    try:
        result = store.transact(lambda connection: _store(connection, context, claim, slot, results, now=now))
    except StoreUnavailableError as error:
        # If the database is down, this raises as well, and the lease expires. Otherwise the database refused one of the answers.
        failures: dict[str, CallResult] = dict.fromkeys(results, VodUnavailableError(str(error)))
        result = store.transact(lambda connection: _store(connection, context, claim, slot, failures, now=now))
    log.info(
        "video infos stored",
        source=context.source,
        claimed=result.claimed,
        saved=result.saved,
        retried=result.retried,
        given_up=result.given_up,
    )
    return result


def get_video_info(vod: Vod, media_id: str) -> VideoInfo:
    """Return the answer of one call of GetVideoInfo. Raises VodError."""
    try:
        info = read_video_info(vod.get_video_info(media_id))
    except VodError:
        raise
    except Exception as error:
        # A bug in vodsync must be handled like a failure of VOD.
        raise VodUnreadableError(f"vodsync could not read VOD's answer: {type(error).__name__}") from error
    if info is None or info.media_id != media_id:
        raise VodUnreadableError(f"{GET_VIDEO_INFO} returned an answer that is not about this asset")
    return info


def _claim(connection: Connection, context: SourceContext, now: datetime) -> tuple[VideoInfoClaim, Slot] | Wait | None:
    """Claim pending assets, and reserve the slot of the first of their calls. None: no call is due."""
    claim = VideoInfoQueue(connection).claim(context.source, limit=CLAIM_SIZE, now=now, lease=context.settings.lease)
    if claim is None:
        return None
    slot = RateLimiter(connection).take(
        context.rate_limit_name, GET_VIDEO_INFO, per_second=CALLS_PER_SECOND, calls=len(claim.pending)
    )
    return slot if isinstance(slot, Wait) else (claim, slot)


class _Calls:
    """The calls for one claim, each in its own slot of the rate limit. Safe for several threads."""

    def __init__(self, store: Store, context: SourceContext, claim: VideoInfoClaim, slot: Slot, stopping: threading.Event) -> None:
        self._store = store
        self._context = context
        self._claim = claim
        self._stopping = stopping
        self._first_call_at = time.monotonic() + slot.wait.total_seconds()
        # The second half of the lease is for storing the results.
        self._deadline = time.monotonic() + context.settings.lease.total_seconds() / 2
        self._lock = threading.Lock()
        #: The error for which no further calls are made.
        self._source_error: VodError | None = None

    def call(self, number: int) -> CallResult:
        """Make the claim's call `number`, counted from 0, when it may start."""
        if self._stopping.wait(max(0, self._first_call_at + number / CALLS_PER_SECOND - time.monotonic())):
            return None
        if self._source_error is not None or time.monotonic() > self._deadline:
            return self._source_error
        media_id = self._claim.pending[number].media_id
        try:
            return get_video_info(self._context.vod, media_id)
        except (VodThrottledError, VodCredentialsError) as error:
            self._back_off(error)
            return error
        except VodError as error:
            outage = self._context.unanswered
            if outage.failed(str(error), kind=f"video info {type(error).__name__}"):
                fields = {"source": self._context.source, "media_id": media_id, "unlogged": outage.unlogged}
                log.warning("video info not fetched", **fields, error=str(error), request_id=error.request_id)
            return error

    def _back_off(self, error: VodThrottledError | VodCredentialsError) -> None:
        with self._lock:
            if self._source_error is None:
                self._source_error = error
                back_off(self._store, self._context.rate_limit_name, GET_VIDEO_INFO, error, self._context.settings.retry)


def _store(
    connection: Connection,
    context: SourceContext,
    claim: VideoInfoClaim,
    slot: Slot,
    results: Mapping[str, CallResult],
    *,
    now: datetime,
) -> VideoInfoResult:
    """Store the results of a claim's calls, in the caller's transaction."""
    infos = [info for info in results.values() if isinstance(info, VideoInfo)]
    queue = VideoInfoQueue(connection)
    saved = queue.complete(claim, infos, observed_at=slot.at)
    Catalogue(connection, announce=context.settings.announce).save_video_infos(claim.source, saved, observed_at=slot.at)
    retries = {
        pending.media_id: decide_retry(pending, error, context.settings.retry, now=now)
        for pending in claim.pending
        if not isinstance(error := results[pending.media_id], VideoInfo)
    }
    queue.retry(claim, retries)
    if slot.probing and infos:
        RateLimiter(connection).clear_error(context.rate_limit_name, GET_VIDEO_INFO)
    given_up = sum(retry.at is None for retry in retries.values())
    return VideoInfoResult(claimed=len(claim.pending), saved=len(saved), retried=len(retries) - given_up, given_up=given_up)


def decide_retry(pending: PendingVideoInfo, error: VodError | None, policy: RetryPolicy, *, now: datetime) -> RetryAt:
    """Return when to call again for an asset. `error` is None if its call was not made."""
    if error is None:
        return RetryAt(now)
    if isinstance(error, VodThrottledError | VodCredentialsError):
        # The error concerns the account, and the source is backed off.
        return RetryAt(now, str(error))
    is_final = isinstance(error, VodRefusedError) and error.code != "Forbidden.IllegalStatus"
    if is_final and error.code == "InvalidVideo.NotFound" and pending.priority != BACKFILL:
        # BatchGetMediaInfos returned it a moment ago (vod-protocol 2.5). Assets that only a listing requested are not that new.
        times = (pending.requested_at + delay for delay in accumulate(policy.not_final_delays))
        return RetryAt(next((at for at in times if at > now), None), str(error))
    if is_final or now - pending.requested_at >= GIVE_UP_AFTER:
        return RetryAt(None, str(error))
    return RetryAt(now + policy.backoff.delay(pending.attempts + 1), str(error), failed=True)
