"""What the single-video operation said of each medium, and for which it is still to be asked."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, literal_column, null, select, update

from worker.core.media import VideoInfo
from worker.store.dialects import Upsert, in_index_order
from worker.store.inbox.sync_requests import PRIORITIES
from worker.store.tables import video_info


@dataclass(frozen=True, slots=True)
class PendingVideoInfo:
    """One medium for which the operation is to be asked, since when, how often it was in vain, and how urgent it is."""

    media_id: str
    requested_at: datetime
    attempts: int
    priority: int


@dataclass(frozen=True, slots=True)
class VideoInfoClaim:
    """Media of one source that are ours to ask for; who is asked again, or whose lease ran out, is so no longer."""

    source: str
    token: str
    owed: tuple[PendingVideoInfo, ...]

    @property
    def media_ids(self) -> list[str]:
        return [each.media_id for each in self.owed]


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Ask again at `at`, or never where that is None. `failed` makes the next pause longer."""

    at: datetime | None
    error: str | None = None
    failed: bool = False


class VideoInfoQueue:
    """Works inside the caller's transaction and never commits. Rows of this table are locked before those of vod_media."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def enqueue(self, source: str, priorities: Mapping[str, int], *, now: datetime) -> None:
        """The operation is to be asked for these, each in its lane; what is owed already stays in the better one of both.

        An answer that is under way meanwhile may be too old, and is dropped.
        """
        row = {"source": source, "requested_at": now, "available_at": now, "attempts": 0}
        rows = [row | {"media_id": media_id, "priority": priority} for media_id, priority in sorted(priorities.items())]
        if rows:
            _OWE.execute(self._connection, rows)

    def claim(self, source: str, *, limit: int, now: datetime, lease: timedelta) -> VideoInfoClaim | None:
        """Take up to `limit` that are owed, best lane first, oldest first; None where nothing is."""
        due: list[Any] = []
        for priority in PRIORITIES:
            parameters = {"source": source, "priority": priority, "now": now, "limit": limit - len(due)}
            due += self._connection.execute(_DUE, parameters).all()
            if len(due) == limit:
                break
        if not due:
            return None
        claim = VideoInfoClaim(source, secrets.token_hex(16), tuple(PendingVideoInfo(*row) for row in due))
        self._connection.execute(_TAKE, {"s": source, "ids": claim.media_ids, "token": claim.token, "until": now + lease})
        return claim

    def complete(self, claim: VideoInfoClaim, infos: Collection[VideoInfo], *, observed_at: datetime) -> list[VideoInfo]:
        """Keep these answers; gives those that were still ours to give. The others are owed to whoever asked later."""
        if not infos:
            return []
        ids = sorted(info.media_id for info in infos)
        held = set(self._connection.execute(_STILL_OURS, {"s": claim.source, "ids": ids, "t": claim.token}).scalars())
        ours = [info for info in infos if info.media_id in held]
        rows = [
            {"answer": info.raw, "unreadable": list(info.unreadable), "observed_at": observed_at} | _key(claim, info.media_id)
            for info in sorted(ours, key=lambda info: info.media_id)
        ]
        if rows:
            self._connection.execute(_SETTLE, rows)
        return ours

    def retry(self, claim: VideoInfoClaim, laters: Mapping[str, RetryAt]) -> None:
        """Give these back for a later time, or give them up."""
        rows = [
            {"at": later.at, "error": later.error, "failed": int(later.failed)} | _key(claim, media_id)
            for media_id, later in sorted(laters.items())
        ]
        if rows:
            self._connection.execute(_POSTPONE, rows)


def _key(claim: VideoInfoClaim, media_id: str) -> dict[str, Any]:
    return {"s": claim.source, "m": media_id, "t": claim.token}


_OWE = Upsert(
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

_DUE = in_index_order(
    select(video_info.c.media_id, video_info.c.requested_at, video_info.c.attempts, video_info.c.priority)
    .where(
        video_info.c.source == bindparam("source"),
        video_info.c.priority == bindparam("priority"),
        video_info.c.available_at <= bindparam("now"),
    )
    .order_by(video_info.c.available_at)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True),
    video_info,
    "ix_vod_video_info_due",
)

_THESE = and_(video_info.c.source == bindparam("s"), video_info.c.media_id.in_(bindparam("ids", expanding=True)))
_TAKE = update(video_info).where(_THESE).values(claim=bindparam("token"), available_at=bindparam("until"))
_STILL_OURS = select(video_info.c.media_id).where(_THESE, video_info.c.claim == bindparam("t")).with_for_update()

_HELD = and_(video_info.c.source == bindparam("s"), video_info.c.media_id == bindparam("m"), video_info.c.claim == bindparam("t"))
_SETTLE = (
    update(video_info)
    .where(_HELD)
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
_POSTPONE = (
    update(video_info)
    .where(_HELD)
    .values(
        available_at=bindparam("at"),
        claim=null(),
        attempts=video_info.c.attempts + bindparam("failed"),
        last_error=bindparam("error"),
    )
)
