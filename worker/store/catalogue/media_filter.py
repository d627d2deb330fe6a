"""Select stored assets by a filter, and walk through their ids in windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, String, Table, and_, bindparam, cast, exists, func, or_, select

from worker.store import Store
from worker.store.tables import audio_stream, media, play_info, raw, video_stream

#: The columns of vod_media that a filter can compare.
FIELDS = (
    "state",
    "status",
    "title",
    "cate_id",
    "cate_name",
    "storage_location",
    "storage_class",
    "restore_status",
    "download_switch",
    "template_group_id",
    "app_id",
    "reference_id",
    "audit_status",
    "region_id",
)

#: The numeric ones of these columns.
NUMBERS = tuple(name for name in FIELDS if isinstance(media.c[name].type, BigInteger))

#: Assets read in one statement. Without this limit, a filter that matches few assets would run one statement for minutes.
WINDOW_SIZE = 5000


@dataclass(frozen=True, slots=True)
class MediaFilter:
    """Match assets for which all of these conditions are true. `where` pairs a column with its value; None means NULL."""

    where: tuple[tuple[str, str | int | None], ...] = ()
    observed_before: datetime | None = None
    #: The codec of a video stream, an audio stream or a play info, in any case.
    codec: str | None = None
    #: VOD's last answer has fields that could not be read.
    unreadable: bool = False

    def condition(self) -> ColumnElement[bool]:
        """Return the condition on a row of vod_media."""
        conditions = [media.c[name].is_(None) if value is None else media.c[name] == value for name, value in self.where]
        if self.observed_before is not None:
            conditions.append(media.c.observed_at < self.observed_before)
        if self.codec is not None:
            codec = self.codec.lower()
            tables = (video_stream, audio_stream, play_info)
            conditions.append(or_(*(_has_row(table, func.lower(table.c.codec_name) == codec) for table in tables)))
        if self.unreadable:
            conditions.append(_has_row(raw, cast(raw.c.unreadable, String) != "[]"))
        return and_(*conditions)


def _has_row(table: Table, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(table.c.media_id == media.c.media_id, table.c.source == media.c.source, condition)


def selected(store: Store, source: str, selection: MediaFilter) -> Iterator[str]:
    """Yield the ids of the matching assets in ascending order. Raises StoreUnavailableError.

    Each window has a transaction of its own. If an asset starts or stops to match while the caller iterates, the others are still
    yielded exactly once.
    """
    matching = select(media.c.media_id).where(_AFTER, selection.condition()).order_by(media.c.media_id)
    after = ""
    while True:
        with store.reading() as connection:
            last = connection.execute(_LAST, {"key_source": source, "after": after}).scalar()
            window = matching if last is None else matching.where(media.c.media_id <= last)
            media_ids = connection.execute(window, {"key_source": source, "after": after}).scalars().all()
        yield from media_ids
        if last is None:
            return
        after = last


_AFTER = and_(media.c.source == bindparam("key_source"), media.c.media_id > bindparam("after"))

#: The last id of the next window; no row if fewer assets remain.
_LAST = select(media.c.media_id).where(_AFTER).order_by(media.c.media_id).limit(1).offset(WINDOW_SIZE - 1)
