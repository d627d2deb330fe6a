"""Store which assets need a call of GetVideoInfo, claim them, and store the answers."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, literal_column, null, select, update

from worker.core.media import VideoInfo
from worker.store.asset_rows import asset_key, asset_keys, is_any_asset, is_asset
from worker.store.dialects import Upsert
from worker.store.inbox.due_rows import lock_due, select_due, update_claimed
from worker.store.inbox.sync_requests import PRIORITIES
from worker.store.tables import video_info


@dataclass(frozen=True, slots=True)
class PendingVideoInfo:
    """One asset to call GetVideoInfo for. `attempts` counts failed calls."""

    media_id: str
    requested_at: datetime
    attempts: int
    priority: int


@dataclass(frozen=True, slots=True)
class VideoInfoClaim:
    """Assets of one source that this worker has claimed. An asset leaves the claim if it is enqueued again or the lease expires."""

    source: str
    token: str
    pending: tuple[PendingVideoInfo, ...]

    @property
    def media_ids(self) -> list[str]:
        return [pending.media_id for pending in self.pending]


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Call again at `at`, or never if it is None. `failed` adds to the attempts, from which the pauses grow."""

    at: datetime | None
    error: str | None = None
    failed: bool = False


class VideoInfoQueue:
    """Works inside the caller's transaction and never commits.

    The caller locks rows of this table before rows of vod_media, so that two transactions cannot deadlock.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def enqueue(self, source: str, priorities: Mapping[str, int], *, now: datetime) -> None:
        """Make these assets due, each with its priority. An asset that is due already keeps the more urgent priority.

        An answer that another worker is waiting for may be too old, so its claim ends.
        """
        row = {"source": source, "requested_at": now, "available_at": now, "attempts": 0}
        rows = [row | {"media_id": media_id, "priority": priority} for media_id, priority in sorted(priorities.items())]
        if rows:
            _ENQUEUE.execute(self._connection, rows)

    def claim(self, source: str, *, limit: int, now: datetime, lease: timedelta) -> VideoInfoClaim | None:
        """Claim up to `limit` due assets: the first priority first, then the longest due. Return None if nothing is due."""
        due = lock_due(self._connection, _DUE, source, priorities=PRIORITIES, limit=limit, now=now)
        if not due:
            return None
        claim = VideoInfoClaim(source, secrets.token_hex(16), tuple(PendingVideoInfo(*row) for row in due))
        self._connection.execute(_CLAIM, asset_keys(source, claim.media_ids) | {"token": claim.token, "until": now + lease})
        return claim

    def complete(self, claim: VideoInfoClaim, infos: Collection[VideoInfo], *, observed_at: datetime) -> list[VideoInfo]:
        """Store answers. Return those that were stored: the others left the claim, and stay due."""
        if not infos:
            return []
        parameters = asset_keys(claim.source, [info.media_id for info in infos]) | {"token": claim.token}
        claimed = set(self._connection.execute(_STILL_CLAIMED, parameters).scalars())
        stored = [info for info in infos if info.media_id in claimed]
        rows = [
            {"answer": info.raw, "unreadable": list(info.unreadable), "observed_at": observed_at}
            | _parameters(claim, info.media_id)
            for info in sorted(stored, key=lambda info: info.media_id)
        ]
        if rows:
            self._connection.execute(_COMPLETE, rows)
        return stored

    def retry(self, claim: VideoInfoClaim, retries: Mapping[str, RetryAt]) -> None:
        """Release claimed assets until a later time, or give up on them."""
        rows = [
            {"retry_at": retry.at, "error": retry.error, "failed": int(retry.failed)} | _parameters(claim, media_id)
            for media_id, retry in sorted(retries.items())
        ]
        if rows:
            self._connection.execute(_RETRY, rows)


def _parameters(claim: VideoInfoClaim, media_id: str) -> dict[str, Any]:
    return asset_key(claim.source, media_id) | {"token": claim.token}


_ENQUEUE = Upsert(
    video_info,
    ("source", "media_id", "requested_at", "available_at", "priority", "attempts"),
    lambda stored, new: [
        ("priority", case((stored.available_at.is_(None) | (new.priority < stored.priority), new.priority), else_=stored.priority)),
        ("requested_at", new.requested_at),
        ("available_at", new.available_at),
        ("attempts", literal_column("0")),
        ("last_error", literal_column("NULL")),
        ("claim", literal_column("NULL")),
    ],
)

_DUE = select_due(video_info, ("media_id", "requested_at", "attempts", "priority"), index="ix_vod_video_info_due")

_CLAIM = update_claimed(video_info)

_STILL_CLAIMED = (
    select(video_info.c.media_id).where(is_any_asset(video_info), video_info.c.claim == bindparam("token")).with_for_update()
)

_IS_CLAIMED = and_(is_asset(video_info), video_info.c.claim == bindparam("token"))

_COMPLETE = (
    update(video_info)
    .where(_IS_CLAIMED)
    .values(
        available_at=null(),
        claim=null(),
        attempts=0,
        last_error=null(),
        answer=bindparam("answer"),
        unreadable=bindparam("unreadable"),
        observed_at=bindparam("observed_at"),
    )
)

_RETRY = (
    update(video_info)
    .where(_IS_CLAIMED)
    .values(
        available_at=bindparam("retry_at"),
        claim=null(),
        attempts=video_info.c.attempts + bindparam("failed"),
        last_error=bindparam("error"),
    )
)
