"""Store changes of assets until the broker has them: the outbox of the change feed.

A transaction that writes a change of an asset has locked the asset's row before, or inserted it, and keeps the lock until the
commit. So of two transactions that change the same asset, the later one gets its ids after the earlier one has committed. The ids
of one asset are in the order of their commits, and a reader that sees one of them sees all before it.

The ids of different assets have no such order: a lower id can appear after a higher one was published. Therefore a reader always
begins at the lowest id, and deletes exactly the ids that it published.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from worker.store.tables import change


class ChangeKind(enum.StrEnum):
    """What happened to an asset; the column `change`."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """One row of vod_change.

    `fields` contains names of columns of vod_media and of parts: mezzanine, audio_streams, video_streams, play_infos, raw.
    """

    id: int
    source: str
    media_id: str
    change: str
    changed_at: datetime
    fields: list[str]


@dataclass(frozen=True, slots=True)
class PendingChanges:
    """How many changes are not published yet. `since` is the time of the oldest one, None if there are none."""

    count: int
    since: datetime | None


class Outbox:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, source: str, kind: ChangeKind, fields: Mapping[str, Sequence[str]], *, changed_at: datetime) -> None:
        """Store one change for each of these assets. The caller has locked their rows."""
        if fields:
            rows = [
                {"source": source, "media_id": media_id, "change": kind, "changed_at": changed_at, "fields": list(names)}
                for media_id, names in fields.items()
            ]
            self._connection.execute(insert(change), rows)

    def is_empty(self) -> bool:
        """Return whether all changes are published."""
        return self._connection.execute(select(change.c.id).limit(1)).first() is None

    def oldest(self, limit: int) -> list[Change]:
        """Return up to `limit` changes in the order of their ids."""
        return [Change(*row) for row in self._connection.execute(_OLDEST.limit(limit))]

    def delete(self, ids: Collection[int]) -> None:
        """Delete published changes."""
        if ids:
            self._connection.execute(_DELETE, {"ids": sorted(ids)})

    def delete_older(self, *, before: datetime, limit: int) -> int:
        """Delete unpublished changes from before that time among the `limit` lowest ids. Return how many were deleted.

        This needs no index on the time, because ids and times grow together.
        """
        old = [row.id for row in self._connection.execute(_TIMES.limit(limit)) if row.changed_at < before]
        return self._connection.execute(_DELETE, {"ids": old}).rowcount if old else 0

    def pending(self) -> PendingChanges:
        """Count the changes that are not published yet."""
        return PendingChanges(
            *self._connection.execute(select(func.count(), func.min(change.c.changed_at)).select_from(change)).one()
        )


_OLDEST = select(change.c.id, change.c.source, change.c.media_id, change.c.change, change.c.changed_at, change.c.fields).order_by(
    change.c.id
)
_TIMES = select(change.c.id, change.c.changed_at).order_by(change.c.id)
_DELETE = delete(change).where(change.c.id.in_(bindparam("ids", expanding=True)))
