"""Store media assets as VOD last answered, and write only what is newer than the stored rows."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, delete, insert, select, union, update

from worker.core.media import Media, VideoInfo
from worker.core.normalise import content_hash
from worker.store import tables
from worker.store.asset_rows import asset_key, asset_keys, is_any_asset, is_asset
from worker.store.catalogue.change_detection import Snapshot
from worker.store.catalogue.parts import PARTS
from worker.store.outbox import ChangeKind, Outbox


class AssetState(enum.StrEnum):
    """What VOD last answered: it returned the asset, does not know it, refuses to show it, or reported its deletion."""

    OK = "ok"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    DELETED = "deleted"


OK = AssetState.OK
MISSING = AssetState.MISSING
FORBIDDEN = AssetState.FORBIDDEN
DELETED = AssetState.DELETED


@dataclass(slots=True)
class Saved:
    """The ids of saved assets by what the save found. `older`: the stored row is from a newer answer, and nothing was written."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)


class Catalogue:
    """Works inside the caller's transaction and never commits.

    With `announce`, each change is also added to the outbox of the change feed, in the same transaction. Without it, no query is
    made for the feed.
    """

    def __init__(self, connection: Connection, *, announce: bool = False) -> None:
        self._connection = connection
        self._changes = Outbox(connection) if announce else None

    def save(self, source: str, assets: Iterable[Media], *, observed_at: datetime) -> Saved:
        """Store assets as VOD answered a request made at `observed_at`. Return what was new, changed, unchanged or older.

        An answer older than the stored row changes nothing. An equal answer writes only `observed_at`. An answer from before VOD
        analysed the file does not erase the data of an analysed file (vod-protocol 7.16). An answer without MediaInfo does not
        erase the columns of vod_media.
        """
        by_id = {asset.media_id: asset for asset in assets}
        stored = self._lock(source, by_id)
        hashes = {
            media_id: content_hash(asset)
            for media_id, asset in by_id.items()
            if media_id not in stored or stored[media_id].observed_at < observed_at
        }
        saved = _compare(by_id, hashes, stored)
        changed = [by_id[media_id] for media_id in saved.changed]
        partial = [asset for asset in changed if not asset.is_analysed and not asset.is_source_file_deleted]
        keep = self._analysed(source, [asset.media_id for asset in partial]) | {
            asset.media_id for asset in partial if asset.is_empty
        }
        before = Snapshot(self._connection, source, saved.changed) if self._changes else None
        if saved.new:
            rows = [_media_row(source, by_id[media_id], hashes[media_id], observed_at, new=True) for media_id in saved.new]
            self._connection.execute(insert(tables.media), [row | {"first_seen_at": observed_at} for row in rows])
        if saved.changed:
            self._update(source, changed, hashes, keep, observed_at)
        self._observe(source, saved.unchanged, observed_at)
        replaced = [media_id for media_id in saved.changed if media_id not in keep]
        self._replace_parts(source, [by_id[media_id] for media_id in [*saved.new, *replaced]], stale=replaced)
        if self._changes and before:
            created: dict[str, list[str]] = {}
            updated: dict[str, list[str]] = {}
            for media_id in [*saved.new, *saved.changed]:
                row = _media_row(source, by_id[media_id], hashes[media_id], observed_at)
                fields = before.changed_fields(by_id[media_id], row, with_parts=media_id not in keep)
                if not before.has_seen(media_id):
                    created[media_id] = fields
                elif fields:
                    updated[media_id] = fields
            self._changes.add(source, ChangeKind.CREATED, created, changed_at=observed_at)
            self._changes.add(source, ChangeKind.UPDATED, updated, changed_at=observed_at)
        return saved

    def states(self, source: str, media_ids: Collection[str]) -> dict[str, str]:
        """Return the stored state of each of these assets that has a row."""
        if not media_ids:
            return {}
        return dict(map(tuple, self._connection.execute(_STATES, asset_keys(source, media_ids))))

    def mark(
        self, source: str, media_ids: Collection[str], state: AssetState, *, observed_at: datetime, only_new: bool = False
    ) -> list[str]:
        """Store that these assets are `missing`, `forbidden` or `deleted`. Return those whose state changed.

        Their other columns stay. A row from a newer answer stays as it is, and a deleted asset does not become missing. With
        `only_new`, every existing row stays as it is.
        """
        stored = self._lock(source, media_ids)
        new = [media_id for media_id in sorted(media_ids) if media_id not in stored]
        older = {} if only_new else {media_id: row for media_id, row in stored.items() if row.observed_at < observed_at}
        # VOD reported the deletion itself, which explains why the asset is missing.
        same = [media_id for media_id, row in older.items() if row.state == state or (state == MISSING and row.state == DELETED)]
        changed = [media_id for media_id in older if media_id not in same]
        if new:
            times = dict.fromkeys(("first_seen_at", "observed_at", "changed_at"), observed_at)
            rows = [{"source": source, "media_id": media_id, "state": state} | times for media_id in new]
            self._connection.execute(insert(tables.media), rows)
        if changed:
            values = {"state": state, "observed_at": observed_at, "changed_at": observed_at, "deleted_at": None}
            self._connection.execute(_UPDATE_ALL, [asset_keys(source, changed) | values])
            self._announce_state(source, [stored[media_id] for media_id in changed], state, observed_at)
        self._observe(source, same, observed_at)
        return new + changed

    def mark_deleted(self, source: str, deleted_at: Mapping[str, datetime], *, observed_at: datetime) -> None:
        """Store that these assets were deleted, and when. Their rows stay, and a later answer that shows an asset makes it `ok`."""
        changed = self.mark(source, deleted_at.keys(), DELETED, observed_at=observed_at)
        if changed:
            rows = [asset_key(source, media_id) | {"deleted_at": deleted_at[media_id]} for media_id in sorted(changed)]
            self._connection.execute(UPDATE_MEDIA, rows)

    def save_video_infos(self, source: str, infos: Iterable[VideoInfo], *, observed_at: datetime) -> None:
        """Store the columns that GetVideoInfo fills, of the assets whose stored values differ."""
        answered = {info.media_id: {"audit_status": info.audit_status, "region_id": info.region_id} for info in infos}
        if not answered:
            return
        stored = {row["media_id"]: row for row in self._connection.execute(_VIDEO_INFO, asset_keys(source, answered)).mappings()}
        differing = {
            media_id: [name for name, value in answered[media_id].items() if row[name] != value] for media_id, row in stored.items()
        }
        differing = {media_id: names for media_id, names in differing.items() if names}
        if differing:
            rows = [asset_key(source, media_id) | {"changed_at": observed_at} | answered[media_id] for media_id in differing]
            self._connection.execute(UPDATE_MEDIA, rows)
        if self._changes:
            self._changes.add(source, ChangeKind.UPDATED, differing, changed_at=observed_at)

    def _lock(self, source: str, media_ids: Collection[str]) -> dict[str, Any]:
        """Lock the rows of these assets in the order of their ids, and return them by id."""
        if not media_ids:
            return {}
        return {row.media_id: row for row in self._connection.execute(_LOCK, asset_keys(source, media_ids))}

    def _analysed(self, source: str, media_ids: Sequence[str]) -> set[str]:
        """Return those of these assets that have rows from an analysis."""
        if not media_ids:
            return set()
        return set(self._connection.execute(_ANALYSED, asset_keys(source, media_ids)).scalars())

    def _announce_state(self, source: str, stored: Sequence[Any], state: AssetState, observed_at: datetime) -> None:
        """Announce that assets changed from their `stored` state to another one.

        An asset that VOD never showed is not announced: it is new when VOD first shows it.
        """
        if not self._changes:
            return
        analysed = self._analysed(source, [row.media_id for row in stored if row.content_hash is None])
        fields = {
            row.media_id: ["state", "deleted_at"] if DELETED in (state, row.state) else ["state"]
            for row in stored
            if row.content_hash is not None or row.media_id in analysed
        }
        kind = ChangeKind.DELETED if state == DELETED else ChangeKind.UPDATED
        self._changes.add(source, kind, fields, changed_at=observed_at)

    def _observe(self, source: str, media_ids: Sequence[str], observed_at: datetime) -> None:
        if media_ids:
            self._connection.execute(_UPDATE_ALL, [asset_keys(source, media_ids) | {"observed_at": observed_at}])

    def _update(
        self, source: str, assets: Sequence[Media], hashes: dict[str, str], keep: Collection[str], observed_at: datetime
    ) -> None:
        rows = []
        for asset in sorted(assets, key=attrgetter("media_id")):
            row = _media_row(source, asset, hashes[asset.media_id], observed_at)
            if asset.media_id in keep or not asset.has_details:
                # Half of the data is from an older answer, so that no answer can be equal to it.
                row["content_hash"] = None
            rows.append(asset_key(row.pop("source"), row.pop("media_id")) | row)
        # One statement has the same columns for all of its rows.
        for same_columns in ([row for row in rows if "title" in row], [row for row in rows if "title" not in row]):
            if same_columns:
                self._connection.execute(UPDATE_MEDIA, same_columns)

    def _replace_parts(self, source: str, assets: Sequence[Media], *, stale: Sequence[str]) -> None:
        # A new transcoding can have fewer streams, so all rows of a part are replaced.
        if stale:
            for deletion in (*(part.delete for part in PARTS), DELETE_RAW):
                self._connection.execute(deletion, asset_keys(source, stale))
        for part in PARTS:
            rows = part.rows(source, assets)
            if rows:
                self._connection.execute(part.insert, rows)
        if assets:
            self._connection.execute(INSERT_RAW, [raw_row(source, asset) for asset in assets])


def _compare(assets: Mapping[str, Media], hashes: Mapping[str, str], stored: Mapping[str, Any]) -> Saved:
    """Sort assets by how they differ from the stored rows. Those without a hash are older than their row."""
    saved = Saved()
    for media_id, asset in assets.items():
        row = stored.get(media_id)
        if media_id not in hashes:
            saved.older.append(media_id)
        elif row is None:
            saved.new.append(media_id)
        elif row.state == OK and (row.content_hash == hashes[media_id] or asset.is_empty):
            saved.unchanged.append(media_id)
        else:
            saved.changed.append(media_id)
    return saved


def raw_row(source: str, asset: Media) -> dict[str, Any]:
    """Return the row of vod_raw."""
    return {"source": source, "media_id": asset.media_id, "answer": asset.raw, "unreadable": list(asset.unreadable)}


#: The columns of vod_media that MediaInfo fills, without the two lists.
MEDIA_FIELDS = tuple(
    name for name in Media.__struct_fields__ if name in tables.media.columns and name not in ("media_id", "tags", "snapshots")
)
_media_values = attrgetter(*MEDIA_FIELDS)


def media_columns(asset: Media) -> dict[str, Any]:
    """Return the columns of vod_media that MediaInfo fills; always the same columns in the same order."""
    columns: dict[str, Any] = dict(zip(MEDIA_FIELDS, _media_values(asset), strict=True))
    columns["tags"] = None if asset.tags is None else list(asset.tags)
    columns["snapshots"] = None if asset.snapshots is None else list(asset.snapshots)
    return columns


def _media_row(source: str, asset: Media, content: str, observed_at: datetime, *, new: bool = False) -> dict[str, Any]:
    # An answer without MediaInfo leaves the columns of MediaInfo as they are.
    row = media_columns(asset) if new or asset.has_details else {}
    row["source"] = source
    row["media_id"] = asset.media_id
    row["state"] = OK
    row["observed_at"] = row["changed_at"] = observed_at
    row["deleted_at"] = None
    row["content_hash"] = content
    return row


_LOCK = (
    select(tables.media.c.media_id, tables.media.c.observed_at, tables.media.c.content_hash, tables.media.c.state)
    .where(is_any_asset(tables.media))
    .order_by(tables.media.c.media_id)
    .with_for_update()
)

_STATES = select(tables.media.c.media_id, tables.media.c.state).where(is_any_asset(tables.media))

_VIDEO_INFO = (
    select(tables.media.c.media_id, tables.media.c.audit_status, tables.media.c.region_id)
    .where(is_any_asset(tables.media))
    .order_by(tables.media.c.media_id)
    .with_for_update()
)

#: Sets the same values for several assets.
_UPDATE_ALL = update(tables.media).where(is_any_asset(tables.media))

#: Sets values for one asset; executed with many rows.
UPDATE_MEDIA = update(tables.media).where(is_asset(tables.media))

_ANALYSED = union(
    select(tables.mezzanine.c.media_id).where(is_any_asset(tables.mezzanine), tables.mezzanine.c.duration.is_not(None)),
    select(tables.audio_stream.c.media_id).where(is_any_asset(tables.audio_stream)),
    select(tables.video_stream.c.media_id).where(is_any_asset(tables.video_stream)),
)

INSERT_RAW = insert(tables.raw)
DELETE_RAW = delete(tables.raw).where(is_any_asset(tables.raw))
