"""What we hold beside what a listing shows: rows that are missing, behind, or no longer there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, update

from worker.core.listing import ListedMedia
from worker.store.catalogue.assets import FORBIDDEN, OK, Catalogue
from worker.store.inbox.sync_requests import BACKFILL, Request, SyncRequests
from worker.store.tables import listed, media, suspect, sync_request


class Inventory:
    """One source's media. Works inside the caller's transaction and never commits; `announce` is that of Catalogue."""

    def __init__(self, connection: Connection, source: str, *, announce: bool = False) -> None:
        self._connection = connection
        self._source = source
        self._announce = announce

    def compare(
        self, rows: Iterable[ListedMedia], *, forbidden: bool = False, modified: bool = False
    ) -> tuple[list[str], list[str]]:
        """Of the listed media those that we do not hold, and those that changed since; without those that are asked for already.

        A medium that was answered, and is asked for again later, is not: what it became meanwhile need not wait for that.

        `forbidden` takes those that were not ours to see for media that we do not hold. `modified` says that all of them were
        listed because they changed, so that one without a time did.
        """
        found = {row.media_id: row for row in rows}
        these = {"s": self._source, "ids": sorted(found)}
        stored = {row.media_id: row for row in self._connection.execute(_STORED, these)} if found else {}
        due = set(self._connection.execute(_DUE, these).scalars()) if found else set()
        new, changed = [], []
        for media_id, row in found.items():
            held = stored.get(media_id)
            if media_id in due:
                continue
            if held is None or (held.state != OK and (forbidden or held.state != FORBIDDEN)):
                new.append(media_id)
            elif modified if row.modified_at is None else (held.modified_at is None or row.modified_at > held.modified_at):
                changed.append(media_id)
        return new, changed

    def request(self, media_ids: Collection[str], reason: str, *, now: datetime) -> None:
        """Have them fetched when nothing more urgent is due."""
        SyncRequests(self._connection).request(
            (Request(self._source, media_id, reason, BACKFILL) for media_id in media_ids), now=now
        )

    def unfetched(self, reason: str, *, limit: int = 1_000_000_000) -> int:
        """Media requested for `reason` that nobody has fetched yet; stops counting at `limit`."""
        asked = (
            select(sync_request.c.media_id)
            .where(_REQUESTED, sync_request.c.state == "due", sync_request.c.waits == 0)
            .limit(limit)
            .subquery()
        )
        parameters = {"s": self._source, "reason": reason}
        return self._connection.execute(select(func.count()).select_from(asked), parameters).scalar_one()

    def held(self) -> int:
        """Media that we hold and VOD showed when we last asked."""
        held = select(func.count()).where(media.c.state == OK, media.c.source == self._source)
        return self._connection.execute(held).scalar_one()

    def dead(self, reason: str, *, since: datetime) -> int:
        """Media requested for `reason` since then that became dead letters."""
        dead = select(func.count()).where(_REQUESTED, sync_request.c.state == "dead", sync_request.c.requested_at >= since)
        return self._connection.execute(dead, {"s": self._source, "reason": reason}).scalar_one()

    # The suspects: what we hold and a job has not listed

    def last_held(self, after: str, limit: int) -> str | None:
        """The last of the next `limit` media that we hold behind `after`; None where there are fewer."""
        held = select(media.c.media_id).where(media.c.source == self._source, media.c.state == OK, media.c.media_id > after)
        return self._connection.execute(held.order_by(media.c.media_id).offset(limit - 1).limit(1)).scalar()

    def suspect(self, job_id: int, after: str, last: str | None, *, before: datetime) -> int:
        """Note those media behind `after` and up to `last` that the job has not listed; gives how many.

        Those that came into being after `before` need not have been listed.
        """
        shown = exists().where(listed.c.job_id == job_id, listed.c.media_id == media.c.media_id)
        older = media.c.created_at.is_(None) | (media.c.created_at < before)
        ours = (media.c.source == self._source) & (media.c.state == OK) & older
        these = (media.c.media_id > after) if last is None else (media.c.media_id > after) & (media.c.media_id <= last)
        missing = select(media.c.source, media.c.media_id).where(ours, these, ~shown)
        noted = insert(suspect).from_select(["source", "media_id"], missing)
        return self._connection.execute(noted, execution_options={"preserve_rowcount": True}).rowcount

    def clear(self, media_ids: Collection[str] | None = None) -> None:
        """These are there after all; None clears everybody."""
        where = suspect.c.source == self._source
        if media_ids is not None:
            where &= suspect.c.media_id.in_(sorted(media_ids))
        self._connection.execute(delete(suspect).where(where))

    def unasked(self, limit: int) -> list[str]:
        """Suspects that VOD was not asked for yet."""
        return self._list(suspect.c.gone.is_(None), limit)

    def confirm(self, media_ids: Collection[str]) -> None:
        """VOD does not know these."""
        if media_ids:
            these = (suspect.c.source == self._source) & suspect.c.media_id.in_(sorted(media_ids))
            self._connection.execute(update(suspect).where(these).values(gone=True))

    def gone(self) -> int:
        count = select(func.count()).where(suspect.c.source == self._source, suspect.c.gone.is_(True))
        return self._connection.execute(count).scalar_one()

    def mark_deleted(self, limit: int, *, observed_at: datetime) -> list[str]:
        """Mark up to `limit` confirmed ones as deleted, unless a newer answer showed them."""
        media_ids = self._list(suspect.c.gone.is_(True), limit)
        catalogue = Catalogue(self._connection, announce=self._announce)
        catalogue.mark_deleted(self._source, dict.fromkeys(media_ids, observed_at), observed_at=observed_at)
        self.clear(media_ids)
        return media_ids

    def _list(self, condition: object, limit: int) -> list[str]:
        found = select(suspect.c.media_id).where(suspect.c.source == self._source, condition)  # type: ignore[arg-type]
        return list(self._connection.execute(found.order_by(suspect.c.media_id).limit(limit)).scalars())


_STORED = select(media.c.media_id, media.c.state, media.c.modified_at).where(
    media.c.source == bindparam("s"), media.c.media_id.in_(bindparam("ids", expanding=True))
)
_DUE = select(sync_request.c.media_id).where(
    sync_request.c.source == bindparam("s"),
    sync_request.c.media_id.in_(bindparam("ids", expanding=True)),
    sync_request.c.state == "due",
    sync_request.c.waits == 0,
)
_REQUESTED = (
    (sync_request.c.priority == BACKFILL)
    & (sync_request.c.source == bindparam("s"))
    & (sync_request.c.reason == bindparam("reason"))
)
