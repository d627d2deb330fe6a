"""The media as we last saw them: compare, and write only what moved forward."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, delete, insert, select, union, update

from worker.core.media import Media, VideoInfo
from worker.core.normalise import content_hash
from worker.store import outbox, tables
from worker.store.catalogue.change_detection import Snapshot
from worker.store.outbox import Outbox

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
    """Works inside the caller's transaction and never commits.

    With `announce` each change is written down for the change feed, in the same transaction; without it that costs nothing.
    """

    def __init__(self, connection: Connection, *, announce: bool = False) -> None:
        self._connection = connection
        self._changes = Outbox(connection) if announce else None

    def save(self, source: str, medias: Iterable[Media], *, observed_at: datetime) -> Saved:
        """Store what VOD answered at `observed_at`.

        An answer older than the stored one changes nothing. An equal one moves only `observed_at`. One in which VOD has not looked
        into the file yet leaves an analysed file's data as they are (vod-protocol 7.16), one without MediaInfo those of the
        medium.
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
            elif old.state == OK and (old.content_hash == hashes[media_id] or media.empty):
                saved.unchanged.append(media_id)
            else:
                saved.changed.append(media_id)
                if not media.analysed and not media.source_deleted:
                    partial.append(media)
        keep = self._analysed(source, [media.media_id for media in partial]) | {media.media_id for media in partial if media.empty}
        before = Snapshot(self._connection, source, saved.changed) if self._changes else None
        if saved.new:
            rows = [_media_row(source, by_id[media_id], hashes[media_id], observed_at, new=True) for media_id in saved.new]
            self._connection.execute(insert(tables.media), [row | {"first_seen_at": observed_at} for row in rows])
        if saved.changed:
            self._update(source, [by_id[media_id] for media_id in saved.changed], hashes, keep, observed_at)
        self._observe(source, saved.unchanged, observed_at)
        whole = [media_id for media_id in saved.changed if media_id not in keep]
        self._replace_children(source, [by_id[media_id] for media_id in [*saved.new, *whole]], stale=whole)
        if self._changes and before:
            created: dict[str, list[str]] = {}
            updated: dict[str, list[str]] = {}
            for media_id in [*saved.new, *saved.changed]:
                row = _media_row(source, by_id[media_id], hashes[media_id], observed_at)
                fields = before.differing(by_id[media_id], row, whole=media_id not in keep)
                if not before.seen(media_id):
                    created[media_id] = fields
                elif fields:
                    updated[media_id] = fields
            self._changes.add(source, outbox.CREATED, created, changed_at=observed_at)
            self._changes.add(source, outbox.UPDATED, updated, changed_at=observed_at)
        return saved

    def states(self, source: str, media_ids: Collection[str]) -> dict[str, str]:
        """What we believe of those of these media that have a row."""
        if not media_ids:
            return {}
        return dict(map(tuple, self._connection.execute(_STATES, {"s": source, "ids": sorted(media_ids)})))

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
            self._announce(source, [stored[media_id] for media_id in moved], state, observed_at)
        self._observe(source, same, observed_at)
        return new + moved

    def delete(self, source: str, deleted_at: Mapping[str, datetime], *, observed_at: datetime) -> None:
        """Note that these media are gone, since when; their rows stay, and a later answer that shows one revives it."""
        moved = self.mark(source, deleted_at.keys(), DELETED, observed_at=observed_at)
        if moved:
            rows = [{"s": source, "m": media_id, "deleted_at": deleted_at[media_id]} for media_id in sorted(moved)]
            self._connection.execute(UPDATE_MEDIA, rows)

    def add(self, source: str, infos: Iterable[VideoInfo], *, observed_at: datetime) -> None:
        """Store what the single-video operation adds, where it differs from what stands there."""
        said = {info.media_id: {"audit_status": info.audit_status, "region_id": info.region_id} for info in infos}
        if not said:
            return
        stored = {row["media_id"]: row for row in self._connection.execute(_ADDED, {"s": source, "ids": sorted(said)}).mappings()}
        rows = [
            {"s": source, "m": media_id, "changed_at": observed_at} | said[media_id]
            for media_id, row in stored.items()
            if said[media_id] != {name: row[name] for name in said[media_id]}
        ]
        if rows:
            self._connection.execute(UPDATE_MEDIA, rows)
        if self._changes:
            fields = {row["m"]: [name for name, value in said[row["m"]].items() if stored[row["m"]][name] != value] for row in rows}
            self._changes.add(source, outbox.UPDATED, fields, changed_at=observed_at)

    def _stored(self, source: str, media_ids: Collection[str]) -> dict[str, Any]:
        if not media_ids:
            return {}
        return {row.media_id: row for row in self._connection.execute(_STORED, {"s": source, "ids": sorted(media_ids)})}

    def _analysed(self, source: str, media_ids: Sequence[str]) -> set[str]:
        if not media_ids:
            return set()
        return set(self._connection.execute(_ANALYSED, {"s": source, "ids": media_ids}).scalars())

    def _announce(self, source: str, stored: Sequence[Any], state: str, observed_at: datetime) -> None:
        """These had the `stored` state and now have another one. A medium that VOD never showed is news when it first does."""
        if not self._changes:
            return
        known = self._analysed(source, [row.media_id for row in stored if row.content_hash is None])
        fields = {
            row.media_id: ["state", "deleted_at"] if DELETED in (state, row.state) else ["state"]
            for row in stored
            if row.content_hash is not None or row.media_id in known
        }
        self._changes.add(source, outbox.DELETED if state == DELETED else outbox.UPDATED, fields, changed_at=observed_at)

    def _observe(self, source: str, media_ids: Sequence[str], observed_at: datetime) -> None:
        if media_ids:
            self._connection.execute(_OBSERVE, {"s": source, "ids": media_ids, "at": observed_at})

    def _update(
        self, source: str, medias: Sequence[Media], hashes: dict[str, str], keep: Collection[str], observed_at: datetime
    ) -> None:
        rows = []
        for media in sorted(medias, key=attrgetter("media_id")):
            row = _media_row(source, media, hashes[media.media_id], observed_at)
            if media.media_id in keep or not media.described:
                # Half of this row is from an older answer, so no answer can be equal to it.
                row["content_hash"] = None
            rows.append({"s": row.pop("source"), "m": row.pop("media_id")} | row)
        # One statement has the same columns for all of its rows.
        for same in ([row for row in rows if "title" in row], [row for row in rows if "title" not in row]):
            if same:
                self._connection.execute(UPDATE_MEDIA, same)

    def _replace_children(self, source: str, medias: Sequence[Media], *, stale: Sequence[str]) -> None:
        # A re-transcode can drop streams, so the new set replaces the old one whole.
        if stale:
            for deletion in (*(part.delete for part in PARTS), DELETE_RAW):
                self._connection.execute(deletion, {"s": source, "ids": stale})
        for part in PARTS:
            rows = part.rows(source, medias)
            if rows:
                self._connection.execute(part.insert, rows)
        if medias:
            self._connection.execute(INSERT_RAW, [raw_row(source, media) for media in medias])


class Part:
    """A table beside vod_media with what `of` gives of a medium; the attributes have the names of the columns."""

    def __init__(self, table: Table, of: Callable[[Media], Iterable[object]]) -> None:
        self.table = table
        self.of = of
        self.columns = [column for column in table.columns if column.name not in ("source", "media_id")]
        self.values = attrgetter(*_names(self.columns))
        self.insert = insert(table)
        self.delete = delete(table).where(_of(table))
        self._names = ("source", "media_id", *_names(self.columns))

    def rows(self, source: str, medias: Iterable[Media]) -> list[dict[str, Any]]:
        return [
            dict(zip(self._names, (source, media.media_id, *self.values(value)), strict=True))
            for media in medias
            for value in self.of(media)
        ]


def raw_row(source: str, media: Media) -> dict[str, Any]:
    return {"source": source, "media_id": media.media_id, "answer": media.raw, "unreadable": list(media.unreadable)}


def _names(columns: Iterable[Column[Any]]) -> list[str]:
    return [column.name for column in columns]


#: The columns of vod_media that VOD's MediaInfo fills, but for the two lists.
MEDIA_FIELDS = tuple(
    name for name in Media.__struct_fields__ if name in tables.media.columns and name not in ("media_id", "tags", "snapshots")
)
_media_values = attrgetter(*MEDIA_FIELDS)


def media_columns(media: Media) -> dict[str, Any]:
    """The columns of vod_media that VOD's MediaInfo fills; always the same ones, in the same order."""
    columns: dict[str, Any] = dict(zip(MEDIA_FIELDS, _media_values(media), strict=True))
    columns["tags"] = None if media.tags is None else list(media.tags)
    columns["snapshots"] = None if media.snapshots is None else list(media.snapshots)
    return columns


def _media_row(source: str, media: Media, content: str, observed_at: datetime, *, new: bool = False) -> dict[str, Any]:
    # What says nothing of the medium itself leaves what is known of it.
    row = media_columns(media) if new or media.described else {}
    row["source"] = source
    row["media_id"] = media.media_id
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

_STATES = select(tables.media.c.media_id, tables.media.c.state).where(_THESE)

_ADDED = (
    select(tables.media.c.media_id, tables.media.c.audit_status, tables.media.c.region_id)
    .where(_THESE)
    .order_by(tables.media.c.media_id)
    .with_for_update()
)

_OBSERVE = update(tables.media).where(_THESE).values(observed_at=bindparam("at"))

UPDATE_MEDIA = update(tables.media).where(tables.media.c.source == bindparam("s"), tables.media.c.media_id == bindparam("m"))


def _of(table: Table) -> Any:
    return (table.c.source == bindparam("s")) & table.c.media_id.in_(bindparam("ids", expanding=True))


_ANALYSED = union(
    select(tables.mezzanine.c.media_id).where(_of(tables.mezzanine), tables.mezzanine.c.duration.is_not(None)),
    select(tables.audio_stream.c.media_id).where(_of(tables.audio_stream)),
    select(tables.video_stream.c.media_id).where(_of(tables.video_stream)),
)

#: Everything that a medium consists of, beside its row in vod_media and VOD's own words in vod_raw.
PARTS = (
    Part(tables.mezzanine, lambda media: () if media.mezzanine is None else (media.mezzanine,)),
    Part(tables.audio_stream, attrgetter("audio_streams")),
    Part(tables.video_stream, attrgetter("video_streams")),
    Part(tables.play_info, attrgetter("play_infos")),
)
INSERT_RAW, DELETE_RAW = insert(tables.raw), delete(tables.raw).where(_of(tables.raw))
