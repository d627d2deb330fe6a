"""Which of the stored media are meant: a filter, and a walk through those that pass it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, String, Table, and_, bindparam, cast, exists, func, or_, select

from worker.store import Store
from worker.store.tables import audio_stream, media, play_info, raw, video_stream

#: What a medium can be chosen by; each is a column of vod_media.
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

#: Those that are numbers.
NUMBERS = tuple(name for name in FIELDS if isinstance(media.c[name].type, BigInteger))

#: Media looked at in one statement: a filter that lets hardly anything through must not keep one at work for minutes.
_WINDOW = 5000


@dataclass(frozen=True, slots=True)
class MediaFilter:
    """Media that are all of this. `where` holds columns and their values; None is a column without a value."""

    where: tuple[tuple[str, str | int | None], ...] = ()
    observed_before: datetime | None = None
    #: Of a video stream, an audio stream or a play info; upper and lower case are alike.
    codec: str | None = None
    #: VOD's last answer has fields that could not be typed.
    unreadable: bool = False

    def condition(self) -> ColumnElement[bool]:
        chosen = [media.c[name].is_(None) if value is None else media.c[name] == value for name, value in self.where]
        if self.observed_before is not None:
            chosen.append(media.c.observed_at < self.observed_before)
        if self.codec is not None:
            codec = self.codec.lower()
            tables = (video_stream, audio_stream, play_info)
            chosen.append(or_(*(_has(table, func.lower(table.c.codec_name) == codec) for table in tables)))
        if self.unreadable:
            chosen.append(_has(raw, cast(raw.c.unreadable, String) != "[]"))
        return and_(*chosen)


def _has(table: Table, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(table.c.media_id == media.c.media_id, table.c.source == media.c.source, condition)


def selected(store: Store, source: str, selection: MediaFilter) -> Iterator[str]:
    """The ids of the media that pass, in the order of the key, a window at a time. Raises StoreUnavailable.

    No statement and no transaction is longer than a window. A medium that a worker fetches meanwhile may stop passing, or begin
    to, without another one being passed over or coming twice.
    """
    passing = select(media.c.media_id).where(_AFTER, selection.condition()).order_by(media.c.media_id)
    after = ""
    while True:
        with store.reading() as connection:
            last = connection.execute(_LAST, {"s": source, "after": after}).scalar()
            window = passing if last is None else passing.where(media.c.media_id <= last)
            found = connection.execute(window, {"s": source, "after": after}).scalars().all()
        yield from found
        if last is None:
            return
        after = last


_AFTER = and_(media.c.source == bindparam("s"), media.c.media_id > bindparam("after"))

#: Where the next window ends; nothing where fewer are left.
_LAST = select(media.c.media_id).where(_AFTER).order_by(media.c.media_id).limit(1).offset(_WINDOW - 1)
