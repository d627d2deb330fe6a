"""Request media assets, claim those that are due, and complete, retry or dead-letter them."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Integer, and_, bindparam, case, delete, func, literal_column, null, update

from worker.core.wait import Wait
from worker.store.asset_rows import asset_key, asset_keys, is_any_asset, is_asset
from worker.store.dialects import Upsert
from worker.store.inbox.due_rows import lock_due, select_due, update_claimed
from worker.store.tables import sync_request

#: Priorities; a lower number is claimed first. A claim that one priority cannot fill is filled up from the next.
LIVE = 0
MANUAL = 10
BACKFILL = 20
PRIORITIES = (LIVE, MANUAL, BACKFILL)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to fetch one asset. `available_at` and `requested_at` are the present time if they are None."""

    source: str
    media_id: str
    reason: str
    priority: int
    available_at: datetime | None = None
    requested_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One claimed row. `generation` increases with each new request for the asset."""

    media_id: str
    generation: int
    attempts: int
    reason: str
    priority: int
    requested_at: datetime
    #: How often VOD's answer was not final.
    waits: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """Sync requests of one source that this worker has until `until`. Only the holder of `token` can change them."""

    source: str
    token: str
    until: datetime
    requests: tuple[SyncRequest, ...]

    @property
    def media_ids(self) -> list[str]:
        return [request.media_id for request in self.requests]


@dataclass(frozen=True, slots=True)
class Retry:
    """Fetch `media_id` again at `at`.

    `failed` adds to the attempts that lead to a dead letter. `waited` adds to the answers that were not final, and `resets_waits`
    counts these from zero before. `priority` replaces the request's priority if it is not None.
    """

    media_id: str
    at: datetime
    error: str | None
    failed: bool = False
    waited: bool = False
    resets_waits: bool = False
    priority: int | None = None


class SyncRequests:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def request(self, requests: Iterable[Request], *, now: datetime) -> None:
        """Make assets due. An asset has one row, so that several requests cost one fetch.

        A new request for a claimed asset does not end the claim: it increases `generation`, and the asset is due again when the
        claim is completed.
        """
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for request in requests:
            key = request.source, request.media_id
            requested_at = request.requested_at or now
            rows[key] = {
                "source": request.source,
                "media_id": request.media_id,
                "reason": request.reason,
                "priority": request.priority,
                "requested_at": min(requested_at, rows[key]["requested_at"]) if key in rows else requested_at,
                "available_at": request.available_at or now,
                "generation": 1,
                "attempts": 0,
                "state": "due",
            }
        if rows:
            # Every process takes row locks in the same order, so that two receivers cannot deadlock.
            _REQUEST.execute(self._connection, [rows[key] for key in sorted(rows)])

    def claim(self, source: str, *, limit: int, now: datetime, lease: timedelta, linger: timedelta) -> Claim | Wait | None:
        """Claim up to `limit` due requests of one source: the first priority first, then the longest due.

        Only requests that have been due for a fifth of `linger` are claimed. Return None if nothing is due. Return a Wait if fewer
        than `limit` requests can be claimed and the oldest due one is younger than `linger`, even if `limit` requests are due.
        """
        due = lock_due(self._connection, _DUE, source, priorities=PRIORITIES, limit=limit, now=now)
        if not due:
            return None
        # VOD sends the notifications of an asset in quick succession: a request this young will probably be requested again soon.
        min_age = linger / 5
        ready = [row for row in due if row.available_at <= now - min_age]
        if len(ready) < limit:
            ready_at: datetime = min(row.available_at for row in due) + linger
            if ready_at > now:
                return Wait(ready_at - now if len(due) < limit else min(ready_at - now, min_age))
        claim = Claim(
            source=source,
            token=secrets.token_hex(16),
            until=now + lease,
            requests=tuple(SyncRequest(*row[:7]) for row in ready),
        )
        parameters = asset_keys(source, claim.media_ids) | {"token": claim.token, "until": claim.until}
        self._connection.execute(_CLAIM, parameters)
        return claim

    def complete(self, claim: Claim, media_ids: Collection[str], *, now: datetime) -> int:
        """Delete completed requests. Return how many were deleted.

        Assets that were requested again since the claim become due instead. A request that another worker has claimed since,
        because the lease expired, stays as it is.
        """
        rows = _parameters(claim, media_ids)
        if not rows:
            return 0
        completed = self._connection.execute(_COMPLETE, rows).rowcount
        if completed != len(rows):
            self._make_due(claim, media_ids, now)
        return completed

    def retry(self, claim: Claim, retries: Sequence[Retry], *, now: datetime) -> None:
        """Release claimed requests until a later time. Assets that were requested again since the claim become due at once."""
        retries = sorted(retries, key=attrgetter("media_id"))
        rows = [
            row
            | {
                "retry_at": retry.at,
                "failed": int(retry.failed),
                "waited": int(retry.waited),
                "kept_waits": 0 if retry.resets_waits else 1,
                "new_priority": retry.priority,
                "error": retry.error,
                "due_at": now,
            }
            for retry, row in zip(retries, _parameters(claim, [retry.media_id for retry in retries]), strict=True)
        ]
        if rows:
            self._connection.execute(_RETRY, rows)

    def dead_letter(self, claim: Claim, errors: Mapping[str, str], *, now: datetime) -> None:
        """Give up on these assets until an operator or a new notification requests them.

        Those that were requested again since the claim become due instead.
        """
        rows = [row | {"error": errors[row["key_media_id"]], "due_at": now} for row in _parameters(claim, errors)]
        if rows:
            self._connection.execute(_DEAD_LETTER, rows)
            self._make_due(claim, errors, now)

    def _make_due(self, claim: Claim, media_ids: Collection[str], now: datetime) -> None:
        """Make those of these requests due that still belong to the claim."""
        self._connection.execute(_MAKE_DUE, asset_keys(claim.source, media_ids) | {"token": claim.token, "due_at": now})


def _parameters(claim: Claim, media_ids: Collection[str]) -> list[dict[str, Any]]:
    """Return the parameters of `_IS_CLAIMED` and `_IS_UNCHANGED` for each of these assets, in the order of their ids."""
    generations = {request.media_id: request.generation for request in claim.requests}
    return [
        asset_key(claim.source, media_id) | {"token": claim.token, "claimed_generation": generations[media_id]}
        for media_id in sorted(media_ids)
    ]


def _requested_again(stored: Any, new: Any) -> list[tuple[str, Any]]:
    """Return how a new request changes the stored row."""
    is_dead = stored.state == literal_column("'dead'")
    is_followed = (stored.waits > literal_column("0")) & (stored.priority > literal_column(str(LIVE)))
    is_earlier = new.requested_at < stored.requested_at
    return [
        # A claimed row keeps its time: the new generation makes it due when the claim is completed.
        (
            "available_at",
            case(
                (stored.claim.is_not(None), stored.available_at),
                (is_dead, new.available_at),
                (stored.available_at < new.available_at, stored.available_at),
                else_=new.available_at,
            ),
        ),
        # A deletion counts if VOD reported it since `requested_at`, so the earliest time is kept. A request that was answered and
        # is only followed up begins again.
        ("requested_at", case((is_dead | is_followed | is_earlier, new.requested_at), else_=stored.requested_at)),
        ("waits", literal_column("0")),
        ("reason", case((new.priority <= stored.priority, new.reason), else_=stored.reason)),
        ("priority", case((new.priority < stored.priority, new.priority), else_=stored.priority)),
        ("attempts", literal_column("0")),
        ("generation", stored.generation + literal_column("1")),
        ("state", literal_column("'due'")),
    ]


_REQUEST = Upsert(
    sync_request,
    ("source", "media_id", "reason", "priority", "requested_at", "available_at", "generation", "attempts", "state"),
    _requested_again,
)

_DUE = select_due(
    sync_request,
    ("media_id", "generation", "attempts", "reason", "priority", "requested_at", "waits", "available_at"),
    index="ix_vod_sync_request_due",
    condition=sync_request.c.state == "due",
)

_CLAIM = update_claimed(sync_request)

_IS_CLAIMED = and_(is_asset(sync_request), sync_request.c.claim == bindparam("token"))
_IS_UNCHANGED = sync_request.c.generation == bindparam("claimed_generation")

_COMPLETE = delete(sync_request).where(_IS_CLAIMED, _IS_UNCHANGED)

_RETRY = (
    update(sync_request)
    .where(_IS_CLAIMED)
    .values(
        claim=null(),
        available_at=case((_IS_UNCHANGED, bindparam("retry_at")), else_=bindparam("due_at")),
        attempts=case((_IS_UNCHANGED, sync_request.c.attempts + bindparam("failed")), else_=0),
        waits=case((_IS_UNCHANGED, sync_request.c.waits * bindparam("kept_waits") + bindparam("waited")), else_=0),
        priority=case(
            (_IS_UNCHANGED, func.coalesce(bindparam("new_priority", type_=Integer), sync_request.c.priority)),
            else_=sync_request.c.priority,
        ),
        last_error=bindparam("error"),
    )
)

_DEAD_LETTER = (
    update(sync_request)
    .where(_IS_CLAIMED, _IS_UNCHANGED)
    .values(
        claim=null(),
        state="dead",
        available_at=bindparam("due_at"),
        attempts=sync_request.c.attempts + 1,
        last_error=bindparam("error"),
    )
)

_MAKE_DUE = (
    update(sync_request)
    .where(is_any_asset(sync_request), sync_request.c.claim == bindparam("token"))
    .values(claim=null(), available_at=bindparam("due_at"), attempts=0)
)
