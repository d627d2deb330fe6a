"""What changed, until the broker has it: the outbox of the change feed.

Whoever writes a change of a medium has locked that medium's row before, or made it, and keeps it so until the commit. So of two
transactions that change the same medium the later one takes its ids after the earlier one has committed: the ids of one medium
are in the order of their commits, and whoever sees one of them sees those before it. The ids of different media are in no such
order, and a lower one may well appear after a higher one was handed over; therefore reading begins at the lowest each time, and
exactly the ids that were handed over are deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from worker.store.tables import change

CREATED, UPDATED, DELETED = "created", "updated", "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """`fields` are names of columns of vod_media, and of parts: mezzanine, audio_streams, video_streams, play_infos, raw."""

    id: int
    source: str
    media_id: str
    change: str
    changed_at: datetime
    fields: list[str]


@dataclass(frozen=True, slots=True)
class PendingChanges:
    """How many changes wait to be handed over, and since when the oldest does; None where none does."""

    count: int
    since: datetime | None


class Outbox:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, source: str, kind: str, fields: Mapping[str, Sequence[str]], *, changed_at: datetime) -> None:
        """Write down one change for each of these media, whose rows the caller has locked."""
        if fields:
            rows = [
                {"source": source, "media_id": media_id, "change": kind, "changed_at": changed_at, "fields": list(names)}
                for media_id, names in fields.items()
            ]
            self._connection.execute(insert(change), rows)

    def any(self) -> bool:
        return self._connection.execute(select(change.c.id).limit(1)).first() is not None

    def oldest(self, limit: int) -> list[Change]:
        return [Change(*row) for row in self._connection.execute(_OLDEST.limit(limit))]

    def forget(self, ids: Collection[int]) -> None:
        if ids:
            self._connection.execute(_FORGET, {"ids": sorted(ids)})

    def drop(self, *, before: datetime, limit: int) -> int:
        """Delete changes from before that time, `limit` at most; gives how many those were.

        Only the `limit` oldest are looked at, which needs no index: ids and times grow together.
        """
        old = [row.id for row in self._connection.execute(_AGES.limit(limit)) if row.changed_at < before]
        return self._connection.execute(_FORGET, {"ids": old}).rowcount if old else 0

    def waiting(self) -> PendingChanges:
        return PendingChanges(
            *self._connection.execute(select(func.count(), func.min(change.c.changed_at)).select_from(change)).one()
        )


_OLDEST = select(change.c.id, change.c.source, change.c.media_id, change.c.change, change.c.changed_at, change.c.fields).order_by(
    change.c.id
)
_AGES = select(change.c.id, change.c.changed_at).order_by(change.c.id)
_FORGET = delete(change).where(change.c.id.in_(bindparam("ids", expanding=True)))
