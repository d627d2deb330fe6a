"""What VOD told us of a medium, and its answers alone do not say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from worker.core.errors import NotificationRejectedError
from worker.core.events import parse
from worker.store.tables import notification


@dataclass(frozen=True, slots=True)
class Deletion:
    """A medium was deleted `at`, by VOD's clock, and `told_at` is when VOD said so, by ours."""

    at: datetime
    told_at: datetime


class NotificationHistory:
    """Reads the inbox, inside the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def deletions(self, source: str, media_ids: Collection[str]) -> dict[str, Deletion]:
        """Those of these media that VOD ever told us to be deleted whole (vod-protocol 2.7), each with the last time it did."""
        if not media_ids:
            return {}
        told = self._connection.execute(_DELETIONS, {"s": source, "ids": sorted(media_ids)})
        return {
            media_id: Deletion(at=event_time or received_at, told_at=received_at)
            for media_id, body, event_time, received_at in map(tuple, told)
            if _deletes(body)
        }

    def failed_analyses(self, source: str, media_ids: Collection[str]) -> set[str]:
        """Those of these media whose last analysis failed, as VOD told us; nothing more is to come of it."""
        if not media_ids:
            return set()
        # Later ones replace earlier ones.
        last = dict(map(tuple, self._connection.execute(_ANALYSES, {"s": source, "ids": sorted(media_ids)})))
        return {media_id for media_id, status in last.items() if status == "fail"}


def _deletes(body: str) -> bool:
    try:
        return parse(body.encode()).is_deletion
    except NotificationRejectedError:
        return False


_DELETIONS = (
    select(notification.c.media_id, notification.c.body, notification.c.event_time, notification.c.received_at)
    .where(
        notification.c.source == bindparam("s"),
        notification.c.media_id.in_(bindparam("ids", expanding=True)),
        notification.c.event_type == "DeleteMediaComplete",
        notification.c.status == "success",
    )
    # What came out of a spool has a late id.
    .order_by(notification.c.received_at, notification.c.id)
)

_ANALYSES = (
    select(notification.c.media_id, notification.c.status)
    .where(
        notification.c.source == bindparam("s"),
        notification.c.media_id.in_(bindparam("ids", expanding=True)),
        notification.c.event_type == "VideoAnalysisComplete",
    )
    .order_by(notification.c.id)
)
