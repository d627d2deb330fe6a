"""Compare listed media with the stored assets of a source, request those that are missing or outdated, and count."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from worker.core.listing import ListedMedia
from worker.store.asset_rows import asset_keys, is_any_asset
from worker.store.catalogue.assets import FORBIDDEN, OK
from worker.store.inbox.sync_requests import BACKFILL, Request, SyncRequests
from worker.store.tables import media, sync_request


class Inventory:
    """The stored assets and the sync requests of one source. Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection, source: str) -> None:
        self._connection = connection
        self._source = source

    def compare(
        self, rows: Iterable[ListedMedia], *, include_forbidden: bool = False, by_modification: bool = False
    ) -> tuple[list[str], list[str]]:
        """Return the ids of the listed media that are not stored, and of those that changed at VOD since they were fetched.

        Media whose sync request is due are in neither list, because they are fetched anyway. A request that waits for a later time
        does not count: what changed at VOD meanwhile is fetched now.

        `include_forbidden`: count a forbidden asset as not stored, so that it is fetched again. `by_modification`: the rows come
        from a listing of what changed, so that a row without a time of modification counts as changed.
        """
        listed = {row.media_id: row for row in rows}
        if not listed:
            return [], []
        parameters = asset_keys(self._source, listed)
        stored = {row.media_id: row for row in self._connection.execute(_STORED, parameters)}
        due = set(self._connection.execute(_DUE, parameters).scalars())
        new, changed = [], []
        for media_id, row in listed.items():
            asset = stored.get(media_id)
            if media_id in due:
                continue
            if asset is None or (asset.state != OK and (include_forbidden or asset.state != FORBIDDEN)):
                new.append(media_id)
            elif _is_changed(row, asset, by_modification=by_modification):
                changed.append(media_id)
        return new, changed

    def request(self, media_ids: Collection[str], reason: str, *, now: datetime) -> None:
        """Store sync requests with the priority `backfill`: they are fetched after live and manual ones."""
        requests = [Request(self._source, media_id, reason, BACKFILL) for media_id in media_ids]
        SyncRequests(self._connection).request(requests, now=now)

    def count_unfetched(self, reason: str, *, limit: int = 1_000_000_000) -> int:
        """Return how many media requested for `reason` with priority backfill were not fetched yet. Counting stops at `limit`."""
        unfetched = (
            select(sync_request.c.media_id)
            .where(_REQUESTED, sync_request.c.state == "due", sync_request.c.waits == 0)
            .limit(limit)
            .subquery()
        )
        parameters = {"key_source": self._source, "reason": reason}
        return self._connection.execute(select(func.count()).select_from(unfetched), parameters).scalar_one()

    def count_dead_letters(self, reason: str, *, since: datetime) -> int:
        """Return how many media requested for `reason` with priority backfill since then became dead letters."""
        dead = select(func.count()).where(_REQUESTED, sync_request.c.state == "dead", sync_request.c.requested_at >= since)
        return self._connection.execute(dead, {"key_source": self._source, "reason": reason}).scalar_one()

    def count_present(self) -> int:
        """Return how many stored assets VOD showed when they were last fetched (state `ok`)."""
        present = select(func.count()).where(media.c.state == OK, media.c.source == self._source)
        return self._connection.execute(present).scalar_one()


def _is_changed(row: ListedMedia, asset: Row[*tuple[Any, ...]], *, by_modification: bool) -> bool:
    if row.modified_at is None:
        return by_modification
    return asset.modified_at is None or row.modified_at > asset.modified_at


_STORED = select(media.c.media_id, media.c.state, media.c.modified_at).where(is_any_asset(media))
_DUE = select(sync_request.c.media_id).where(is_any_asset(sync_request), sync_request.c.state == "due", sync_request.c.waits == 0)
_REQUESTED = (
    (sync_request.c.priority == BACKFILL)
    & (sync_request.c.source == bindparam("key_source"))
    & (sync_request.c.reason == bindparam("reason"))
)
