"""What would stand in the typed columns, had today's parser read VOD's last answers?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Dialect, Select, Table, and_, bindparam, func, select

from worker.core.media import Media
from worker.core.normalise import content_hash, read_media
from worker.store import tables
from worker.store.catalogue.assets import DELETE_RAW, INSERT_RAW, MEDIA_FIELDS, PARTS, UPDATE_MEDIA, Part, media_columns, raw_row
from worker.store.catalogue.change_detection import Snapshot
from worker.store.outbox import UPDATED, Outbox
from worker.store.types import ExactDecimal, as_sqlite


@dataclass(frozen=True, slots=True)
class Difference:
    """A medium of which something stands otherwise than today's parser reads it."""

    media: Media
    #: When the answer was asked for that it was compared with.
    observed_at: datetime
    #: Of today's reading; None where the columns of vod_media are from a newer answer than vod_raw.
    content_hash: str | None
    in_media: bool
    in_raw: bool
    parts: tuple[Part, ...]

    @property
    def visible(self) -> bool:
        """It is not only the hash, which nobody reads."""
        return self.in_media or self.in_raw or bool(self.parts)


@dataclass(slots=True)
class Comparison:
    """`last` is the last medium that was read, None where there was none. Those `unknown` are no media to today's parser."""

    read: int = 0
    last: str | None = None
    differences: list[Difference] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class Rederivation:
    """Works inside the caller's transaction and never commits; `announce` is that of Catalogue."""

    def __init__(self, connection: Connection, source: str, *, announce: bool = False) -> None:
        self._connection = connection
        self._source = source
        self._announce = announce

    def compare(self, after: str, *, limit: int) -> Comparison:
        """Read the next answers in the order of the key, and compare them with the typed columns."""
        page = {"s": self._source, "after": after, "limit": limit}
        media_ids = self._connection.execute(_PAGE, page).scalars().all()
        if not media_ids:
            return Comparison()
        # A range is one comparison, where a list would be as many values as there are media.
        compared = self._compare(_IN_RANGE, {"after": after, "last": media_ids[-1]})
        compared.read, compared.last = len(media_ids), media_ids[-1]
        return compared

    def repair(self, differences: Sequence[Difference], *, now: datetime) -> int:
        """Write what differs; gives of how many media. `observed_at` and `state` stay: nobody asked VOD.

        The media are locked first. One that was fetched since it was compared is compared again.
        """
        if not differences:
            return 0
        found = {difference.media.media_id: difference for difference in differences}
        # In the order in which the catalogue takes its locks.
        locked = self._connection.execute(_LOCK, {"s": self._source, "ids": sorted(found)})
        stale = [media_id for media_id, observed_at in map(tuple, locked) if observed_at != found[media_id].observed_at]
        valid = [each for media_id, each in found.items() if media_id not in stale]
        if stale:
            valid += self._compare(_LISTED, {"ids": stale}).differences
        visible = [each for each in valid if each.visible]
        before = Snapshot(self._connection, self._source, [each.media.media_id for each in visible if self._announce])
        self._write_media(valid, now)
        for part in PARTS:
            self._replace(part.delete, part.insert, [each.media for each in valid if part in each.parts], part.rows)
        self._replace(DELETE_RAW, INSERT_RAW, [each.media for each in valid if each.in_raw], _raw_rows)
        if self._announce:
            columns = {each.media.media_id: media_columns(each.media) if each.in_media else {} for each in visible}
            fields = {
                each.media.media_id: before.differing(each.media, columns[each.media.media_id], whole=True) for each in visible
            }
            Outbox(self._connection).add(self._source, UPDATED, fields, changed_at=now)
        return len(visible)

    def _compare(self, statements: _Statements, which: dict[str, Any]) -> Comparison:
        compared = Comparison()
        these = which | {"s": self._source}
        # First of all, so that whatever is stored while we read shows as another `observed_at` when the row is locked.
        media = {row[0]: tuple(row) for row in self._connection.execute(statements.media, these)}
        raws = self._connection.execute(statements.raw, these).all()
        dialect = self._connection.dialect
        parts = [(part, self._rows(statements.parts[part], these), _stored_as(part, dialect)) for part in PARTS]
        for media_id, answer, unreadable in map(tuple, raws):
            if media_id not in media:
                continue
            _, observed_at, stored_hash, *columns = media[media_id]
            read = read_media(answer)
            if read is None or read.media_id != media_id:
                compared.unknown.append(media_id)
                continue
            # Without a hash, these columns are of an answer without analysis, which is newer than what stands in vod_raw.
            whole = stored_hash is not None
            difference = Difference(
                media=read,
                observed_at=observed_at,
                content_hash=content_hash(read) if whole else None,
                in_media=whole and columns != list(media_columns(read).values()),
                in_raw=read.raw != answer or list(read.unreadable) != unreadable,
                parts=tuple(part for part, rows, stored_as in parts if rows.get(media_id, []) != stored_as(read)),
            )
            if difference.visible or difference.content_hash != stored_hash:
                compared.differences.append(difference)
        return compared

    def _rows(self, statement: Select[Any], these: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
        rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for row in self._connection.execute(statement, these):
            rows[row[0]].append(tuple(row[1:]))
        for several in rows.values():
            several.sort(key=_KEY)
        return rows

    def _write_media(self, differences: Iterable[Difference], now: datetime) -> None:
        """In statements of many rows, each of which has the same columns."""
        rows: dict[tuple[bool, bool], list[dict[str, Any]]] = defaultdict(list)
        for each in differences:
            row: dict[str, Any] = {"s": self._source, "m": each.media.media_id, "content_hash": each.content_hash}
            if each.in_media:
                row |= media_columns(each.media)
            if each.visible:
                row["changed_at"] = now
            rows[each.in_media, each.visible].append(row)
        for several in rows.values():
            self._connection.execute(UPDATE_MEDIA, sorted(several, key=itemgetter("m")))

    def _replace(self, delete: Any, insert: Any, medias: Sequence[Media], rows_of: Any) -> None:
        if not medias:
            return
        self._connection.execute(delete, {"s": self._source, "ids": [media.media_id for media in medias]})
        rows = rows_of(self._source, medias)
        if rows:
            self._connection.execute(insert, rows)


def _raw_rows(source: str, medias: Iterable[Media]) -> list[dict[str, Any]]:
    return [raw_row(source, media) for media in medias]


def _stored_as(part: Part, dialect: Dialect) -> Callable[[Media], list[tuple[Any, ...]]]:
    """What gives the rows of a medium as they come back from the database, in the order of their keys."""
    decimals = [index for index, column in enumerate(part.columns) if isinstance(column.type, ExactDecimal)]

    def rows(media: Media) -> list[tuple[Any, ...]]:
        return sorted(map(part.values, part.of(media)), key=_KEY)

    def rounded(media: Media) -> list[tuple[Any, ...]]:
        made = [list(row) for row in rows(media)]
        for row in made:
            for index in decimals:
                row[index] = as_sqlite(row[index])
        return list(map(tuple, made))

    return rounded if dialect.name == "sqlite" else rows


#: The key of a part comes first among its columns; of a file there is one.
_KEY = itemgetter(0)


class _Statements:
    """What is read of some media, which `condition` chooses in a table."""

    def __init__(self, condition: Callable[[Table], ColumnElement[bool]]) -> None:
        media, raw = tables.media, tables.raw
        columns = [media.c[name] for name in (*MEDIA_FIELDS, "tags", "snapshots")]
        # Between two media with an answer there may be any number without one.
        answered = and_(raw.c.media_id == media.c.media_id, raw.c.source == media.c.source)
        self.media = (
            select(media.c.media_id, media.c.observed_at, media.c.content_hash, *columns).join(raw, answered).where(condition(raw))
        )
        self.raw = select(raw.c.media_id, raw.c.answer, raw.c.unreadable).where(condition(raw))
        self.parts = {part: select(part.table.c.media_id, *part.columns).where(condition(part.table)) for part in PARTS}


def _in_range(table: Table) -> ColumnElement[bool]:
    return and_(table.c.source == bindparam("s"), table.c.media_id > bindparam("after"), table.c.media_id <= bindparam("last"))


def _listed(table: Table) -> ColumnElement[bool]:
    return and_(table.c.source == bindparam("s"), table.c.media_id.in_(bindparam("ids", expanding=True)))


_IN_RANGE, _LISTED = _Statements(_in_range), _Statements(_listed)

_PAGE = (
    select(tables.raw.c.media_id)
    .where(tables.raw.c.source == bindparam("s"), tables.raw.c.media_id > bindparam("after"))
    .order_by(tables.raw.c.media_id)
    .limit(bindparam("limit"))
)
_LOCK = (
    select(tables.media.c.media_id, tables.media.c.observed_at)
    .where(_listed(tables.media))
    .order_by(tables.media.c.media_id)
    .with_for_update()
)


def count_answers(connection: Connection, source: str) -> int:
    """How many answers of VOD's are stored; may take long."""
    return connection.execute(select(func.count()).select_from(tables.raw).where(tables.raw.c.source == source)).scalar_one()
