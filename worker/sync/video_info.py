"""What only the single-video operation knows: the review's result and the region of the bucket (VODSYNC_VIDEO_INFO=on).

The transaction that stores a batch owes the look-ups; they are made after it, by a thread of their own.
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
from worker.sync.retry_policy import STANDARD, Policy
from worker.vod import Vod

log = logs.get(__name__)

OPERATION = "GetVideoInfo"

#: What VOD allows the account (vod-protocol 5).
CALLS_PER_SECOND = 100.0

#: Look-ups that are claimed together, and those of them that are under way at the same time.
_LIMIT, _AT_ONCE = 20, 4

#: What could not be had for so long is given up until the medium's next fetch.
_GIVE_UP = timedelta(days=3)

#: The answer for one medium, or what went wrong; None where it was not asked for.
Said = VideoInfo | VodError | None


@dataclass(slots=True)
class LookedUp:
    """What became of one claim. `wait`: nothing was claimed, but it is worth coming back after that."""

    claimed: int = 0
    saved: int = 0
    postponed: int = 0
    given_up: int = 0
    wait: timedelta | None = None


def look_up(
    store: Store,
    vod: Vod,
    *,
    now: datetime,
    source: str = "default",
    policy: Policy = STANDARD,
    stopping: threading.Event | None = None,
) -> LookedUp:
    """Ask for up to 20 media of one source whose answer is owed, and store `audit_status`, `region_id` and the answer.

    Raises StoreUnavailable; the lease then gives them back.
    """
    claimed = store.transact(lambda connection: _claim(connection, source, now, policy))
    if claimed is None:
        return LookedUp()
    if isinstance(claimed, Wait):
        return LookedUp(wait=claimed.duration)
    claim, slot = claimed
    began = time.monotonic()
    calls = _Calls(store, vod, claim, slot, policy, stopping or threading.Event())
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"{OPERATION} {source}") as pool:
        said: dict[str, Said] = dict(zip(claim.media_ids, pool.map(calls.ask, range(len(claim.owed))), strict=True))
    # Whole seconds: what counts is a call that timed out.
    now += timedelta(seconds=int(time.monotonic() - began))
    try:
        looked = store.transact(lambda connection: _store(connection, claim, slot, said, now=now, policy=policy))
    except StoreUnavailableError as error:
        # Either the database is away, then this fails too and the lease gives them back; or it does not take one of the answers.
        faults: dict[str, Said] = dict.fromkeys(said, VodUnavailableError(str(error)))
        looked = store.transact(lambda connection: _store(connection, claim, slot, faults, now=now, policy=policy))
    log.info(
        "video infos stored",
        source=source,
        claimed=looked.claimed,
        saved=looked.saved,
        postponed=looked.postponed,
        given_up=looked.given_up,
    )
    return looked


def _claim(connection: Connection, source: str, now: datetime, policy: Policy) -> tuple[VideoInfoClaim, Slot] | Wait | None:
    claim = VideoInfoQueue(connection).claim(source, limit=_LIMIT, now=now, lease=policy.lease)
    if claim is None:
        return None
    bucket = policy.bucket or source
    slot = RateLimiter(connection).take(bucket, OPERATION, per_second=CALLS_PER_SECOND, calls=len(claim.owed))
    return slot if isinstance(slot, Wait) else (claim, slot)


class _Calls:
    """The calls for one claim, each at its own slot of the quota. Threads share it."""

    def __init__(
        self, store: Store, vod: Vod, claim: VideoInfoClaim, slot: Slot, policy: Policy, stopping: threading.Event
    ) -> None:
        self._store = store
        self._vod = vod
        self._claim = claim
        self._policy = policy
        self._stopping = stopping
        self._first = time.monotonic() + slot.wait.total_seconds()
        # Halfway through the lease the others get a chance.
        self._last = time.monotonic() + policy.lease.total_seconds() / 2
        self._held = threading.Lock()
        self._fault: VodError | None = None

    def ask(self, number: int) -> Said:
        """Ask for the claim's medium `number`."""
        if self._stopping.wait(max(0, self._first + number / CALLS_PER_SECOND - time.monotonic())):
            return None
        if self._fault is not None or time.monotonic() > self._last:
            return self._fault
        media_id = self._claim.owed[number].media_id
        try:
            return get_video_info(self._vod, media_id)
        except (VodThrottledError, VodCredentialsError) as error:
            self._hold_back(error)
            return error
        except VodError as error:
            asked = {"source": self._claim.source, "media_id": media_id}
            log.warning("video info not fetched", **asked, error=str(error), request_id=error.request_id)
            return error

    def _hold_back(self, error: VodThrottledError | VodCredentialsError) -> None:
        with self._held:
            if self._fault is None:
                self._fault = error
                back_off(self._store, self._policy.bucket or self._claim.source, OPERATION, error, self._policy)


def get_video_info(vod: Vod, media_id: str) -> VideoInfo:
    """Raises VodError."""
    try:
        info = read_video_info(vod.get_video_info(media_id))
    except VodError:
        raise
    except Exception as error:
        # A fault of ours must cost what a fault of VOD costs.
        raise VodUnreadableError(f"vodsync could not read VOD's answer: {type(error).__name__}") from error
    if info is None or info.media_id != media_id:
        raise VodUnreadableError(f"{OPERATION} answered, but not about this medium")
    return info


def _store(
    connection: Connection, claim: VideoInfoClaim, slot: Slot, said: Mapping[str, Said], *, now: datetime, policy: Policy
) -> LookedUp:
    infos = [info for info in said.values() if isinstance(info, VideoInfo)]
    video_infos = VideoInfoQueue(connection)
    saved = video_infos.complete(claim, infos, observed_at=slot.at)
    Catalogue(connection, announce=policy.announce).add(claim.source, saved, observed_at=slot.at)
    faults = {owed: fault for owed in claim.owed if not isinstance(fault := said[owed.media_id], VideoInfo)}
    laters = {owed.media_id: _later(owed, fault, now=now, policy=policy) for owed, fault in faults.items()}
    video_infos.retry(claim, laters)
    if slot.probing and infos:
        RateLimiter(connection).release(policy.bucket or claim.source, OPERATION)
    given_up = sum(later.at is None for later in laters.values())
    return LookedUp(claimed=len(claim.owed), saved=len(saved), postponed=len(laters) - given_up, given_up=given_up)


def _later(owed: PendingVideoInfo, fault: VodError | None, *, now: datetime, policy: Policy) -> RetryAt:
    if fault is None:
        return RetryAt(now)
    if isinstance(fault, VodThrottledError | VodCredentialsError):
        # The quota holds these back, and the fault is not theirs.
        return RetryAt(now, str(fault))
    refused = isinstance(fault, VodRefusedError) and fault.code != "Forbidden.IllegalStatus"
    if refused and fault.code == "InvalidVideo.NotFound" and owed.priority != BACKFILL:
        # The batch showed it a moment ago (vod-protocol 2.5). What only a walk through the library asked for is no news.
        times = (owed.requested_at + after for after in accumulate(policy.patience))
        return RetryAt(next((at for at in times if at > now), None), str(fault))
    if refused or now - owed.requested_at >= _GIVE_UP:
        return RetryAt(None, str(fault))
    return RetryAt(now + policy.pause(owed.attempts), str(fault), failed=True)
