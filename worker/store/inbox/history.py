"""Read from recorded notifications what VOD's answers alone do not show: deletions and failed analyses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, case, or_, select

from worker.core.errors import NotificationRejectedError
from worker.core.events import parse
from worker.store.asset_rows import asset_keys, is_any_asset
from worker.store.tables import notification


@dataclass(frozen=True, slots=True)
class Deletion:
    """The deletion of an asset: `at` is VOD's time of the event, `reported_at` our time of the notification's arrival."""

    at: datetime
    reported_at: datetime


class NotificationHistory:
    """Works inside the caller's transaction and never writes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def deletions(self, source: str, media_ids: Collection[str]) -> dict[str, Deletion]:
        """Return the last recorded deletion of each of these assets that has one (vod-protocol 2.7)."""
        if not media_ids:
            return {}
        # Later rows replace earlier ones.
        return {
            row.media_id: Deletion(at=row.event_time or row.received_at, reported_at=row.received_at)
            for row in self._connection.execute(_DELETIONS, asset_keys(source, media_ids))
            if row.deletes or (row.deletes is None and _deletes(row.body))
        }

    def failed_analyses(self, source: str, media_ids: Collection[str]) -> set[str]:
        """Return those of these assets whose last recorded analysis failed. VOD adds nothing more to such an asset."""
        if not media_ids:
            return set()
        # Later rows replace earlier ones.
        statuses = {row.media_id: row.status for row in self._connection.execute(_ANALYSES, asset_keys(source, media_ids))}
        return {media_id for media_id, status in statuses.items() if status == "fail"}


def _deletes(body: str) -> bool:
    try:
        return parse(body.encode()).is_deletion
    except NotificationRejectedError:
        return False


# A release without the column `deletes` may still run during an upgrade, and a spool file of it may be drained later.
_UNDECIDED = and_(
    notification.c.deletes.is_(None), notification.c.event_type == "DeleteMediaComplete", notification.c.status == "success"
)

_DELETIONS = (
    select(
        notification.c.media_id,
        notification.c.event_time,
        notification.c.received_at,
        notification.c.deletes,
        case((notification.c.deletes.is_(None), notification.c.body)).label("body"),
    )
    .where(is_any_asset(notification), or_(notification.c.deletes.is_(True), _UNDECIDED))
    # Not by id: a notification that was spooled has a later id than its time of arrival.
    .order_by(notification.c.received_at, notification.c.id)
)

_ANALYSES = (
    select(notification.c.media_id, notification.c.status)
    .where(is_any_asset(notification), notification.c.event_type == "VideoAnalysisComplete")
    .order_by(notification.c.received_at, notification.c.id)
)
