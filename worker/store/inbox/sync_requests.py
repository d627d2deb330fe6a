"""The notifications that VOD sent, and the media that are due to be fetched because of them."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Integer, and_, bindparam, case, delete, func, literal_column, null, select, update

from worker.core.wait import Wait
from worker.store.dialects import Upsert, in_index_order
from worker.store.tables import notification, sync_request

#: Priorities, best first. A batch that the first lane cannot fill is topped up from the next.
LIVE, MANUAL, BACKFILL = 0, 10, 20
PRIORITIES = (LIVE, MANUAL, BACKFILL)


class Delivery(msgspec.Struct, frozen=True):
    """One arrival of a notification, ready to be written down. `media_ids` are those it asks to fetch."""

    source: str
    event_key: str
    event_type: str | None
    media_id: str | None
    event_time: datetime | None
    status: str | None
    body: str
    received_at: datetime
    media_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """Please fetch this medium, at once or from `available_at` on. It is asked since `requested_at`, or just now."""

    source: str
    media_id: str
    reason: str
    priority: int
    available_at: datetime | None = None
    requested_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One medium that is due; `generation` tells whether another request for it came in since."""

    media_id: str
    generation: int
    attempts: int
    reason: str
    priority: int
    requested_at: datetime
    #: How often VOD answered that there is more to come.
    waits: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """Sync requests of one source, ours until `until`; nobody else can settle them with another token."""

    source: str
    token: str
    until: datetime
    requests: tuple[SyncRequest, ...]

    @property
    def media_ids(self) -> list[str]:
        return [request.media_id for request in self.requests]


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask again for `media_id` at `at`.

    `failed` adds to the attempts that lead to a dead letter; `waited` to the answers that were not final, which `anew` begins to
    count again. `priority` is the lane it waits in from now on, where that is another one.
    """

    media_id: str
    at: datetime
    error: str | None
    failed: bool = False
    waited: bool = False
    anew: bool = False
    priority: int | None = None


class Inbox:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def record(self, deliveries: Iterable[Delivery]) -> set[tuple[str, str]]:
        """Write deliveries down; gives the (source, event key) of those that VOD had not told us before."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for delivery in deliveries:
            key = delivery.source, delivery.event_key
            if key in rows:
                rows[key]["deliveries"] += 1
            else:
                rows[key] = _notification_row(delivery)
        ordered = [rows[key] for key in sorted(rows)]
        if self._connection.dialect.name in ("postgresql", "sqlite"):
            return self._record_and_tell(ordered)
        known = self._known(rows)
        if known:
            repeats = [{"s": source, "k": key, "n": rows[source, key]["deliveries"]} for source, key in sorted(known)]
            self._connection.execute(_DELIVERED_AGAIN, repeats)
        new = rows.keys() - known
        if new:
            # Another receiver may have written the same notification a moment ago.
            _RECORD.execute(self._connection, [rows[key] for key in sorted(new)])
        return set(new)

    def _record_and_tell(self, rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
        """One statement that also says what was there: a known notification's deliveries are more than those just sent."""
        sent = {(row["source"], row["event_key"]): row["deliveries"] for row in rows}
        stored = map(tuple, _RECORD.execute(self._connection, rows))
        return {(source, key) for source, key, deliveries in stored if deliveries == sent[source, key]}

    def _known(self, keys: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        known: set[tuple[str, str]] = set()
        for source, group in groupby(sorted(keys), key=itemgetter(0)):
            found = self._connection.execute(_KNOWN, {"source": source, "keys": [event_key for _, event_key in group]})
            known |= {(source, event_key) for (event_key,) in found}
        return known

    def request(self, requests: Iterable[Request], *, now: datetime) -> None:
        """Make media due. One row per medium: asking twice costs one look-up."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for request in requests:
            key = request.source, request.media_id
            since = request.requested_at or now
            rows[key] = {
                "source": request.source,
                "media_id": request.media_id,
                "reason": request.reason,
                "priority": request.priority,
                "requested_at": min(since, rows[key]["requested_at"]) if key in rows else since,
                "available_at": request.available_at or now,
                "generation": 1,
                "attempts": 0,
                "state": "due",
            }
        if rows:
            # Everybody takes row locks in the same order, so that two receivers cannot deadlock.
            _REQUEST.execute(self._connection, [rows[key] for key in sorted(rows)])

    def claim(self, source: str, *, limit: int, now: datetime, lease: timedelta, linger: timedelta) -> Claim | Wait | None:
        """Take up to `limit` due requests of one source, best lane first, oldest first.

        None: nothing is due. A Wait: a batch is filling up.
        """
        due: list[Any] = []
        for priority in PRIORITIES:
            parameters = {"source": source, "priority": priority, "now": now, "limit": limit - len(due)}
            due += self._connection.execute(_DUE, parameters).all()
            if len(due) == limit:
                break
        if not due:
            return None
        # A medium's notifications come in quick succession: one that is this young is likely to be notified again in a moment.
        settling = linger / 5
        ready = [row for row in due if row.available_at <= now - settling]
        if len(ready) < limit:
            ripe_at: datetime = min(row.available_at for row in due) + linger
            if ripe_at > now:
                return Wait(ripe_at - now if len(due) < limit else min(ripe_at - now, settling))
        due = ready
        claim = Claim(
            source=source,
            token=secrets.token_hex(16),
            until=now + lease,
            requests=tuple(SyncRequest(*row[:7]) for row in due),
        )
        self._connection.execute(_TAKE, {"s": source, "ids": claim.media_ids, "token": claim.token, "until": claim.until})
        return claim

    def complete(self, claim: Claim, media_ids: Collection[str], *, now: datetime) -> int:
        """The debt of these media is paid. Those that were notified again meanwhile become due again; gives how many were not."""
        generations = {request.media_id: request.generation for request in claim.requests}
        rows = [{"s": claim.source, "m": media_id, "g": generations[media_id], "t": claim.token} for media_id in sorted(media_ids)]
        if not rows:
            return 0
        settled = self._connection.execute(_SETTLE, rows).rowcount
        if settled != len(rows):
            self._rearm(claim, media_ids, now)
        return settled

    def retry(self, claim: Claim, postponements: Sequence[Retry], *, now: datetime) -> None:
        """Give claimed requests back for a later time; one that was notified again meanwhile becomes due at once."""
        generations = {request.media_id: request.generation for request in claim.requests}
        rows = [
            {
                "s": claim.source,
                "m": postponement.media_id,
                "t": claim.token,
                "g": generations[postponement.media_id],
                "at": postponement.at,
                "failed": int(postponement.failed),
                "waited": int(postponement.waited),
                "before": 0 if postponement.anew else 1,
                "lane": postponement.priority,
                "error": postponement.error,
                "now_": now,
            }
            for postponement in sorted(postponements, key=attrgetter("media_id"))
        ]
        if rows:
            self._connection.execute(_POSTPONE, rows)

    def dead_letter(self, claim: Claim, errors: dict[str, str], *, now: datetime) -> None:
        """Give up on these media until a person or a new notification asks again."""
        generations = {request.media_id: request.generation for request in claim.requests}
        rows = [
            {"s": claim.source, "m": media_id, "t": claim.token, "g": generations[media_id], "error": error, "now_": now}
            for media_id, error in sorted(errors.items())
        ]
        if rows:
            self._connection.execute(_BURY, rows)
            self._rearm(claim, errors, now)

    def _rearm(self, claim: Claim, media_ids: Collection[str], now: datetime) -> None:
        self._connection.execute(_REARM, {"s": claim.source, "t": claim.token, "ids": sorted(media_ids), "now_": now})


def _notification_row(delivery: Delivery) -> dict[str, Any]:
    return {
        "source": delivery.source,
        "event_key": delivery.event_key,
        "event_type": delivery.event_type,
        "media_id": delivery.media_id,
        "event_time": delivery.event_time,
        "status": delivery.status,
        "body": delivery.body,
        "received_at": delivery.received_at,
        "deliveries": 1,
    }


_KNOWN = select(notification.c.event_key).where(
    notification.c.source == bindparam("source"), notification.c.event_key.in_(bindparam("keys", expanding=True))
)

_DELIVERED_AGAIN = (
    update(notification)
    .where(notification.c.source == bindparam("s"), notification.c.event_key == bindparam("k"))
    .values(deliveries=notification.c.deliveries + bindparam("n"))
)


_RECORD = Upsert(
    notification,
    ("source", "event_key", "event_type", "media_id", "event_time", "status", "body", "received_at", "deliveries"),
    lambda stored, new: [("deliveries", stored.deliveries + new.deliveries)],
    returning=("source", "event_key", "deliveries"),
)


def _asked_again(stored: Any, new: Any) -> list[tuple[str, Any]]:
    dead = stored.state == literal_column("'dead'")
    followed = (stored.waits > literal_column("0")) & (stored.priority > literal_column(str(LIVE)))
    earlier = new.requested_at < stored.requested_at
    return [
        # A leased row keeps its time: whoever holds it sees the new generation when settling.
        (
            "available_at",
            case(
                (stored.claim.is_not(None), stored.available_at),
                (dead, new.available_at),
                (stored.available_at < new.available_at, stored.available_at),
                else_=new.available_at,
            ),
        ),
        # Everything VOD told since then is part of the request. One that was answered and is only followed begins anew.
        ("requested_at", case((dead | followed | earlier, new.requested_at), else_=stored.requested_at)),
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
    _asked_again,
)

_DUE = in_index_order(
    select(
        sync_request.c.media_id,
        sync_request.c.generation,
        sync_request.c.attempts,
        sync_request.c.reason,
        sync_request.c.priority,
        sync_request.c.requested_at,
        sync_request.c.waits,
        sync_request.c.available_at,
    )
    .where(
        sync_request.c.source == bindparam("source"),
        sync_request.c.state == "due",
        sync_request.c.priority == bindparam("priority"),
        sync_request.c.available_at <= bindparam("now"),
    )
    .order_by(sync_request.c.available_at)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True),
    sync_request,
    "ix_vod_sync_request_due",
)

_TAKE = (
    update(sync_request)
    .where(sync_request.c.source == bindparam("s"), sync_request.c.media_id.in_(bindparam("ids", expanding=True)))
    .values(claim=bindparam("token"), available_at=bindparam("until"))
)

_HELD = and_(
    sync_request.c.source == bindparam("s"), sync_request.c.media_id == bindparam("m"), sync_request.c.claim == bindparam("t")
)
_UNCHANGED = sync_request.c.generation == bindparam("g")

_SETTLE = delete(sync_request).where(_HELD, _UNCHANGED)

_POSTPONE = (
    update(sync_request)
    .where(_HELD)
    .values(
        claim=null(),
        available_at=case((_UNCHANGED, bindparam("at")), else_=bindparam("now_")),
        attempts=case((_UNCHANGED, sync_request.c.attempts + bindparam("failed")), else_=0),
        waits=case((_UNCHANGED, sync_request.c.waits * bindparam("before") + bindparam("waited")), else_=0),
        priority=case(
            (_UNCHANGED, func.coalesce(bindparam("lane", type_=Integer), sync_request.c.priority)), else_=sync_request.c.priority
        ),
        last_error=bindparam("error"),
    )
)

_BURY = (
    update(sync_request)
    .where(_HELD, _UNCHANGED)
    .values(
        claim=null(),
        state="dead",
        available_at=bindparam("now_"),
        attempts=sync_request.c.attempts + 1,
        last_error=bindparam("error"),
    )
)

_REARM = (
    update(sync_request)
    .where(
        sync_request.c.source == bindparam("s"),
        sync_request.c.claim == bindparam("t"),
        sync_request.c.media_id.in_(bindparam("ids", expanding=True)),
    )
    .values(claim=null(), available_at=bindparam("now_"), attempts=0)
)
