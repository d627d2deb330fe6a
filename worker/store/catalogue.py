"""The media as we last saw them: compare, and write only what moved forward."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, delete, insert, select, union, update

from worker.core.media import Media, VideoInfo
from worker.core.normalise import content_hash
from worker.store import tables

#: What VOD says of a medium: known, unknown to it, not ours to see, or deleted (by its own event).
OK, MISSING, FORBIDDEN, DELETED = "ok", "missing", "forbidden", "deleted"


@dataclass(slots=True)
class Saved:
    """Which media a save found new, changed, unchanged, or already known from a newer answer."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)


class Catalogue:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def save(self, source: str, medias: Iterable[Media], *, observed_at: datetime) -> Saved:
        """Store what VOD answered at `observed_at`.

        An answer older than the stored one changes nothing. An equal one moves only `observed_at`. One in which VOD has not looked
        into the file yet leaves an analysed file's data as they are (vod-protocol 7, rule 16).
        """
        by_id = {media.media_id: media for media in medias}
        stored = self._stored(source, by_id)
        saved = Saved()
        partial: list[Media] = []
        hashes: dict[str, str] = {}
        for media_id, media in by_id.items():
            old = stored.get(media_id)
            if old is not None and old.observed_at >= observed_at:
                saved.older.append(media_id)
                continue
            hashes[media_id] = content_hash(media)
            if old is None:
                saved.new.append(media_id)
            elif old.content_hash == hashes[media_id] and old.state == OK:
                saved.unchanged.append(media_id)
            else:
                saved.changed.append(media_id)
                if not media.analysed and not media.source_deleted:
                    partial.append(media)
        keep = self._analysed(source, [media.media_id for media in partial])
        if saved.new:
            rows = [_media_row(source, by_id[media_id], hashes[media_id], observed_at) for media_id in saved.new]
            self._connection.execute(insert(tables.media), [row | {"first_seen_at": observed_at} for row in rows])
        if saved.changed:
            self._update(source, [by_id[media_id] for media_id in saved.changed], hashes, keep, observed_at)
        self._observe(source, saved.unchanged, observed_at)
        whole = [media_id for media_id in saved.changed if media_id not in keep]
        self._replace_children(source, [by_id[media_id] for media_id in [*saved.new, *whole]], stale=whole)
        return saved

    def mark(
        self, source: str, media_ids: Collection[str], state: str, *, observed_at: datetime, only_new: bool = False
    ) -> list[str]:
        """Note that these are `missing`, `forbidden` or `deleted`; gives those whose state changed. Their other columns stay.

        `only_new` leaves those alone that have a row.
        """
        stored = self._stored(source, media_ids)
        new = [media_id for media_id in sorted(media_ids) if media_id not in stored]
        if only_new:
            stored = {}
        # What VOD itself told us to be deleted is not merely missing.
        same = [
            media_id
            for media_id, row in stored.items()
            if row.observed_at < observed_at and (row.state == state or (state == MISSING and row.state == DELETED))
        ]
        moved = [media_id for media_id, row in stored.items() if row.observed_at < observed_at and media_id not in same]
        if new:
            row = {
                "source": source,
                "state": state,
                "first_seen_at": observed_at,
                "observed_at": observed_at,
                "changed_at": observed_at,
            }
            self._connection.execute(insert(tables.media), [row | {"media_id": media_id} for media_id in new])
        if moved:
            values = {"state": state, "observed_at": observed_at, "changed_at": observed_at, "deleted_at": None}
            self._connection.execute(update(tables.media).where(_THESE), [{"s": source, "ids": moved} | values])
        self._observe(source, same, observed_at)
        return new + moved

    def delete(self, source: str, deleted_at: Mapping[str, datetime], *, observed_at: datetime) -> None:
        """Note that these media are gone, since when; their rows stay, and a later answer that shows one revives it."""
        moved = self.mark(source, deleted_at.keys(), DELETED, observed_at=observed_at)
        if moved:
            rows = [{"s": source, "m": media_id, "deleted_at": deleted_at[media_id]} for media_id in sorted(moved)]
            self._connection.execute(_UPDATE, rows)

    def save_video_info(self, source: str, info: VideoInfo, *, observed_at: datetime) -> None:
        """Store what the single-video operation adds, where it differs from what stands there."""
        found = self._connection.execute(_ADDED, {"s": source, "ids": [info.media_id]}).one_or_none()
        said = {"audit_status": info.audit_status, "region_id": info.region_id}
        if found is not None and dict(found._mapping) != said:
            changed = {"s": source, "m": info.media_id, "changed_at": observed_at}
            self._connection.execute(_UPDATE, [changed | said])

    def _stored(self, source: str, media_ids: Collection[str]) -> dict[str, Any]:
        if not media_ids:
            return {}
        return {row.media_id: row for row in self._connection.execute(_STORED, {"s": source, "ids": sorted(media_ids)})}

    def _analysed(self, source: str, media_ids: Sequence[str]) -> set[str]:
        if not media_ids:
            return set()
        return set(self._connection.execute(_ANALYSED, {"s": source, "ids": media_ids}).scalars())

    def _observe(self, source: str, media_ids: Sequence[str], observed_at: datetime) -> None:
        if media_ids:
            self._connection.execute(_OBSERVE, {"s": source, "ids": media_ids, "at": observed_at})

    def _update(
        self, source: str, medias: Sequence[Media], hashes: dict[str, str], keep: Collection[str], observed_at: datetime
    ) -> None:
        rows = []
        for media in sorted(medias, key=attrgetter("media_id")):
            row = _media_row(source, media, hashes[media.media_id], observed_at)
            if media.media_id in keep:
                # Half of this row is from an older answer, so no answer can be equal to it.
                row["content_hash"] = None
            rows.append({"s": row.pop("source"), "m": row.pop("media_id")} | row)
        self._connection.execute(_UPDATE, rows)

    def _replace_children(self, source: str, medias: Sequence[Media], *, stale: Sequence[str]) -> None:
        # A re-transcode can drop streams, so the new set replaces the old one whole.
        if stale:
            for deletion in _DELETE_CHILDREN:
                self._connection.execute(deletion, {"s": source, "ids": stale})
        for statement, rows in (
            (_INSERT_MEZZANINE, [_MEZZANINE(source, m.media_id, m.mezzanine) for m in medias if m.mezzanine is not None]),
            (_INSERT_AUDIO, [_AUDIO(source, m.media_id, stream) for m in medias for stream in m.audio_streams]),
            (_INSERT_VIDEO, [_VIDEO(source, m.media_id, stream) for m in medias for stream in m.video_streams]),
            (_INSERT_PLAY, [_PLAY(source, m.media_id, info) for m in medias for info in m.play_infos]),
            (
                _INSERT_RAW,
                [{"source": source, "media_id": m.media_id, "answer": m.raw, "unreadable": list(m.unreadable)} for m in medias],
            ),
        ):
            if rows:
                self._connection.execute(statement, rows)


class _Rows:
    """Turns one of our types into a row of `table`; the attributes have the names of the columns."""

    def __init__(self, table: Table) -> None:
        self._names = ("source", "media_id", *(name for name in _names(table.columns) if name not in ("source", "media_id")))
        self._values = attrgetter(*self._names[2:])

    def __call__(self, source: str, media_id: str, value: object) -> dict[str, Any]:
        return dict(zip(self._names, (source, media_id, *self._values(value)), strict=True))


def _names(columns: Iterable[Column[Any]]) -> list[str]:
    return [column.name for column in columns]


_MEZZANINE, _AUDIO, _VIDEO, _PLAY = (
    _Rows(table) for table in (tables.mezzanine, tables.audio_stream, tables.video_stream, tables.play_info)
)

#: The columns of vod_media that VOD's MediaInfo fills.
MEDIA_FIELDS = tuple(
    name for name in Media.__struct_fields__ if name in tables.media.columns and name not in ("media_id", "tags", "snapshots")
)
_media_values = attrgetter(*MEDIA_FIELDS)


def _media_row(source: str, media: Media, content: str, observed_at: datetime) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(MEDIA_FIELDS, _media_values(media), strict=True))
    row["source"] = source
    row["media_id"] = media.media_id
    row["tags"] = None if media.tags is None else list(media.tags)
    row["snapshots"] = None if media.snapshots is None else list(media.snapshots)
    row["state"] = OK
    row["observed_at"] = row["changed_at"] = observed_at
    row["deleted_at"] = None
    row["content_hash"] = content
    return row


_THESE = (tables.media.c.source == bindparam("s")) & tables.media.c.media_id.in_(bindparam("ids", expanding=True))

_STORED = (
    select(tables.media.c.media_id, tables.media.c.observed_at, tables.media.c.content_hash, tables.media.c.state)
    .where(_THESE)
    .order_by(tables.media.c.media_id)
    .with_for_update()
)

_ADDED = select(tables.media.c.audit_status, tables.media.c.region_id).where(_THESE).with_for_update()

_OBSERVE = update(tables.media).where(_THESE).values(observed_at=bindparam("at"))

_UPDATE = update(tables.media).where(tables.media.c.source == bindparam("s"), tables.media.c.media_id == bindparam("m"))


def _of(table: Table) -> Any:
    return (table.c.source == bindparam("s")) & table.c.media_id.in_(bindparam("ids", expanding=True))


_ANALYSED = union(
    select(tables.mezzanine.c.media_id).where(_of(tables.mezzanine), tables.mezzanine.c.duration.is_not(None)),
    select(tables.audio_stream.c.media_id).where(_of(tables.audio_stream)),
    select(tables.video_stream.c.media_id).where(_of(tables.video_stream)),
)

_CHILDREN = (tables.mezzanine, tables.audio_stream, tables.video_stream, tables.play_info, tables.raw)
_DELETE_CHILDREN = tuple(delete(table).where(_of(table)) for table in _CHILDREN)
_INSERT_MEZZANINE, _INSERT_AUDIO, _INSERT_VIDEO, _INSERT_PLAY, _INSERT_RAW = (insert(table) for table in _CHILDREN)
