"""Read and write vod_suspect: stored assets that a full listing did not show, until VOD confirms that they are gone."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select, update

from worker.store.catalogue.assets import OK, Catalogue
from worker.store.tables import listed, media, suspect


class Suspects:
    """The suspects of one source. Works inside the caller's transaction and never commits; `announce` is that of Catalogue."""

    def __init__(self, connection: Connection, source: str, *, announce: bool = False) -> None:
        self._connection = connection
        self._source = source
        self._announce = announce

    def page_end(self, after: str, limit: int) -> str | None:
        """Return the id of the last of the next `limit` present assets after the id `after`, None if fewer are left."""
        present = select(media.c.media_id).where(media.c.source == self._source, media.c.state == OK, media.c.media_id > after)
        return self._connection.execute(present.order_by(media.c.media_id).offset(limit - 1).limit(1)).scalar()

    def add(self, job_id: int, after: str, last: str | None, *, created_before: datetime) -> int:
        """Add the present assets with ids after `after` and up to `last` (None: all) that the job has not listed.

        Assets created later than `created_before` are not added: the listing need not have shown them. Returns how many were added.
        """
        was_listed = exists().where(listed.c.job_id == job_id, listed.c.media_id == media.c.media_id)
        is_old_enough = media.c.created_at.is_(None) | (media.c.created_at < created_before)
        is_in_range = (media.c.media_id > after) if last is None else (media.c.media_id > after) & (media.c.media_id <= last)
        is_present = (media.c.source == self._source) & (media.c.state == OK)
        unlisted = select(media.c.source, media.c.media_id).where(is_present, is_old_enough, is_in_range, ~was_listed)
        statement = insert(suspect).from_select(["source", "media_id"], unlisted)
        return self._connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount

    def clear(self) -> None:
        """Delete all suspects of the source; another run may have left some."""
        self._connection.execute(delete(suspect).where(suspect.c.source == self._source))

    def unverified(self, limit: int) -> list[str]:
        """Return up to `limit` suspects that were not fetched from VOD yet."""
        return self._ids(suspect.c.gone.is_(None), limit)

    def confirm_present(self, media_ids: Collection[str]) -> None:
        """Delete these suspects, because they are not known to be gone."""
        self._connection.execute(delete(suspect).where(self._is_any_of(media_ids)))

    def confirm_gone(self, media_ids: Collection[str]) -> None:
        """Record that VOD does not know these suspects."""
        if media_ids:
            self._connection.execute(update(suspect).where(self._is_any_of(media_ids)).values(gone=True))

    def count_gone(self) -> int:
        """Return how many suspects VOD does not know."""
        count = select(func.count()).where(suspect.c.source == self._source, suspect.c.gone.is_(True))
        return self._connection.execute(count).scalar_one()

    def mark_deleted(self, limit: int, *, observed_at: datetime) -> list[str]:
        """Mark up to `limit` assets that are gone as deleted, and delete these suspects. Returns their ids.

        An asset that VOD showed after `observed_at` stays as it is.
        """
        media_ids = self._ids(suspect.c.gone.is_(True), limit)
        catalogue = Catalogue(self._connection, announce=self._announce)
        catalogue.mark_deleted(self._source, dict.fromkeys(media_ids, observed_at), observed_at=observed_at)
        self._connection.execute(delete(suspect).where(self._is_any_of(media_ids)))
        return media_ids

    def _ids(self, condition: ColumnElement[bool], limit: int) -> list[str]:
        media_ids = select(suspect.c.media_id).where(suspect.c.source == self._source, condition)
        return list(self._connection.execute(media_ids.order_by(suspect.c.media_id).limit(limit)).scalars())

    def _is_any_of(self, media_ids: Collection[str]) -> ColumnElement[bool]:
        return (suspect.c.source == self._source) & suspect.c.media_id.in_(sorted(media_ids))
