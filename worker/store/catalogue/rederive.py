"""Derive the typed columns again from VOD's stored answers, and write what differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, bindparam, func, select

from worker.core.media import Media
from worker.core.normalise import content_hash, read_media
from worker.store import tables
from worker.store.asset_rows import asset_key, asset_keys, is_any_asset
from worker.store.catalogue.assets import DELETE_RAW, INSERT_RAW, MEDIA_FIELDS, UPDATE_MEDIA, media_columns, raw_row
from worker.store.catalogue.change_detection import Snapshot
from worker.store.catalogue.parts import PARTS, Part
from worker.store.outbox import ChangeKind, Outbox


@dataclass(frozen=True, slots=True)
class Difference:
    """An asset whose stored columns differ from what the present parser reads in its stored answer."""

    asset: Media
    #: The time of the request that the answer belongs to.
    observed_at: datetime
    #: The hash of the present reading; None if the columns of vod_media are from a newer answer than vod_raw.
    content_hash: str | None
    in_media: bool
    in_raw: bool
    parts: tuple[Part, ...]

    @property
    def is_visible(self) -> bool:
        """Whether more than the hash differs, which no user reads."""
        return self.in_media or self.in_raw or bool(self.parts)


@dataclass(slots=True)
class Comparison:
    """What a page of stored answers contained.

    `last` is the last id that was read, None if there was none. `unknown` are assets that the present parser does not accept.
    """

    read: int = 0
    last: str | None = None
    differences: list[Difference] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class Rederivation:
    """Works inside the caller's transaction and never commits. `announce` means the same as for Catalogue."""

    def __init__(self, connection: Connection, source: str, *, announce: bool = False) -> None:
        self._connection = connection
        self._source = source
        self._announce = announce

    def compare(self, after: str, *, limit: int) -> Comparison:
        """Read the next `limit` answers in the order of their ids, and compare them with the typed columns."""
        page = {"key_source": self._source, "after": after, "limit": limit}
        media_ids = self._connection.execute(_PAGE, page).scalars().all()
        if not media_ids:
            return Comparison()
        # A range is one comparison for the database; a list would be one value per asset.
        compared = self._compare(_IN_RANGE, {"key_source": self._source, "after": after, "last": media_ids[-1]})
        compared.read = len(media_ids)
        compared.last = media_ids[-1]
        return compared

    def repair(self, differences: Sequence[Difference], *, now: datetime) -> int:
        """Write what differs. Return the number of assets with a visible difference.

        `observed_at` and `state` stay, because VOD was not called. The rows are locked first; an asset that was fetched since it
        was compared is compared again.
        """
        if not differences:
            return 0
        by_id = {difference.asset.media_id: difference for difference in differences}
        # The catalogue takes its locks in the same order.
        locked = self._connection.execute(_LOCK, asset_keys(self._source, by_id))
        stale = {media_id for media_id, observed_at in map(tuple, locked) if observed_at != by_id[media_id].observed_at}
        valid = [difference for media_id, difference in by_id.items() if media_id not in stale]
        if stale:
            valid += self._compare(_IN_LIST, asset_keys(self._source, stale)).differences
        visible = [difference for difference in valid if difference.is_visible]
        before = Snapshot(self._connection, self._source, [difference.asset.media_id for difference in visible if self._announce])
        self._write_media(valid, now)
        for part in PARTS:
            assets = [difference.asset for difference in valid if part in difference.parts]
            self._replace(part.delete, part.insert, assets, part.rows)
        self._replace(DELETE_RAW, INSERT_RAW, [difference.asset for difference in valid if difference.in_raw], _raw_rows)
        if self._announce:
            fields = {}
            for difference in visible:
                asset = difference.asset
                columns = media_columns(asset) if difference.in_media else {}
                fields[asset.media_id] = before.changed_fields(asset, columns, with_parts=True)
            Outbox(self._connection).add(self._source, ChangeKind.UPDATED, fields, changed_at=now)
        return len(visible)

    def _compare(self, statements: _Statements, parameters: dict[str, Any]) -> Comparison:
        compared = Comparison()
        # vod_media is read first, so that an answer stored while we read shows as another `observed_at` when the row is locked.
        media = {row[0]: tuple(row) for row in self._connection.execute(statements.media, parameters)}
        raws = self._connection.execute(statements.raw, parameters).all()
        stored_parts = {part: self._rows(statements.parts[part], parameters) for part in PARTS}
        for media_id, answer, unreadable in map(tuple, raws):
            if media_id not in media:
                continue
            _, observed_at, stored_hash, *columns = media[media_id]
            asset = read_media(answer)
            if asset is None or asset.media_id != media_id:
                compared.unknown.append(media_id)
                continue
            # Without a hash, the columns of vod_media are from an answer without analysis that is newer than the one in vod_raw.
            has_hash = stored_hash is not None
            difference = Difference(
                asset=asset,
                observed_at=observed_at,
                content_hash=content_hash(asset) if has_hash else None,
                in_media=has_hash and columns != list(media_columns(asset).values()),
                in_raw=asset.raw != answer or list(asset.unreadable) != unreadable,
                parts=tuple(part for part, rows in stored_parts.items() if rows.get(media_id, []) != self._derived(part, asset)),
            )
            if difference.is_visible or difference.content_hash != stored_hash:
                compared.differences.append(difference)
        return compared

    def _rows(self, statement: Select[Any], parameters: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
        """Return the stored rows of a part by asset, in the order of their keys."""
        rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for row in self._connection.execute(statement, parameters):
            rows[row[0]].append(tuple(row[1:]))
        for rows_of_asset in rows.values():
            rows_of_asset.sort(key=_PART_KEY)
        return rows

    def _derived(self, part: Part, asset: Media) -> list[tuple[Any, ...]]:
        """Return the rows that a part should have, in the order of their keys."""
        return sorted(part.stored_values(asset, self._connection.dialect.name), key=_PART_KEY)

    def _write_media(self, differences: Iterable[Difference], now: datetime) -> None:
        # One statement has the same columns for all of its rows.
        rows: dict[tuple[bool, bool], list[dict[str, Any]]] = defaultdict(list)
        for difference in differences:
            row = asset_key(self._source, difference.asset.media_id) | {"content_hash": difference.content_hash}
            if difference.in_media:
                row |= media_columns(difference.asset)
            if difference.is_visible:
                row["changed_at"] = now
            rows[difference.in_media, difference.is_visible].append(row)
        for same_columns in rows.values():
            self._connection.execute(UPDATE_MEDIA, sorted(same_columns, key=itemgetter("key_media_id")))

    def _replace(self, delete: Any, insert: Any, assets: Sequence[Media], rows_of: Any) -> None:
        if not assets:
            return
        self._connection.execute(delete, asset_keys(self._source, [asset.media_id for asset in assets]))
        rows = rows_of(self._source, assets)
        if rows:
            self._connection.execute(insert, rows)


def _raw_rows(source: str, assets: Iterable[Media]) -> list[dict[str, Any]]:
    return [raw_row(source, asset) for asset in assets]


#: The key of a part is the first of its data columns; a mezzanine has no key and at most one row.
_PART_KEY = itemgetter(0)


class _Statements:
    """The queries that read the assets which `condition` selects in a table."""

    def __init__(self, condition: Callable[[Table], ColumnElement[bool]]) -> None:
        media = tables.media
        raw = tables.raw
        columns = [media.c[name] for name in (*MEDIA_FIELDS, "tags", "snapshots")]
        # Joined, because a range of answers can contain any number of assets without one.
        has_answer = and_(raw.c.media_id == media.c.media_id, raw.c.source == media.c.source)
        self.media = (
            select(media.c.media_id, media.c.observed_at, media.c.content_hash, *columns)
            .join(raw, has_answer)
            .where(condition(raw))
        )
        self.raw = select(raw.c.media_id, raw.c.answer, raw.c.unreadable).where(condition(raw))
        self.parts = {part: part.select.where(condition(part.table)) for part in PARTS}


def _is_in_range(table: Table) -> ColumnElement[bool]:
    return and_(
        table.c.source == bindparam("key_source"), table.c.media_id > bindparam("after"), table.c.media_id <= bindparam("last")
    )


_IN_RANGE = _Statements(_is_in_range)
_IN_LIST = _Statements(is_any_asset)

_PAGE = (
    select(tables.raw.c.media_id)
    .where(tables.raw.c.source == bindparam("key_source"), tables.raw.c.media_id > bindparam("after"))
    .order_by(tables.raw.c.media_id)
    .limit(bindparam("limit"))
)
_LOCK = (
    select(tables.media.c.media_id, tables.media.c.observed_at)
    .where(is_any_asset(tables.media))
    .order_by(tables.media.c.media_id)
    .with_for_update()
)


def count_answers(connection: Connection, source: str) -> int:
    """Return how many answers of a source are stored. Reads all of them, so it can take long."""
    return connection.execute(select(func.count()).select_from(tables.raw).where(tables.raw.c.source == source)).scalar_one()
