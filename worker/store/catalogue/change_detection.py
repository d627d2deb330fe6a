"""In which of its fields a medium differs from the rows that stand there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from decimal import Decimal
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select

from worker.core.media import Media
from worker.store import tables
from worker.store.types import as_sqlite

#: What these say of a medium is only when we looked.
_BOOKKEEPING = frozenset({"source", "media_id", "first_seen_at", "observed_at", "changed_at", "content_hash"})

_PARTS = {
    "mezzanine": tables.mezzanine,
    "audio_streams": tables.audio_stream,
    "video_streams": tables.video_stream,
    "play_infos": tables.play_info,
}


class Snapshot:
    """The rows of these media as they stand; to be made before they are overwritten. Costs five queries, none for no media."""

    def __init__(self, connection: Connection, source: str, media_ids: Collection[str]) -> None:
        self._sqlite = connection.dialect.name == "sqlite"
        self._rows: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, dict[str, set[tuple[Any, ...]]]] = {name: defaultdict(set) for name in _PARTS}
        if not media_ids:
            return
        these = {"s": source, "ids": sorted(media_ids)}
        self._rows = {row.media_id: dict(row._mapping) for row in connection.execute(_MEDIA, these)}
        for name, query in _CHILDREN.items():
            for media_id, *values in connection.execute(query, these):
                self._parts[name][media_id].add(tuple(values))

    def seen(self, media_id: str) -> bool:
        """False where VOD never showed this medium: of a row that was made for a missing one nothing is stored but that."""
        stored = self._rows.get(media_id)
        if stored is None:
            return False
        # A hash is missing too where half of the row is from an older answer; then that answer's parts stand there.
        return stored["content_hash"] is not None or any(media_id in found for found in self._parts.values())

    def differing(self, media: Media, row: Mapping[str, Any], *, whole: bool) -> list[str]:
        """The columns of vod_media, and unless only they are written the parts, that `row` and `media` change.

        A change that none of them shows is in `raw`, VOD's own answer.
        """
        stored = self._rows.get(media.media_id, {})
        found = [name for name, value in row.items() if name not in _BOOKKEEPING and stored.get(name) != value]
        if whole:
            found += [name for name, parts in self._parts.items() if parts.get(media.media_id, set()) != self._said(media, name)]
            found = found or ["raw"]
        return found

    def _said(self, media: Media, part: str) -> set[tuple[Any, ...]]:
        """The rows of a part as they come back from the database."""
        said = getattr(media, part)
        rows = [_values[part](each) for each in (said if isinstance(said, tuple) else (said,)) if each is not None]
        if self._sqlite:
            rows = [tuple(as_sqlite(value) if isinstance(value, Decimal) else value for value in row) for row in rows]
        return set(rows)


def _inner(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name not in ("source", "media_id")]


def _of(table: Table) -> Any:
    return (table.c.source == bindparam("s")) & table.c.media_id.in_(bindparam("ids", expanding=True))


_values = {name: attrgetter(*_inner(table)) for name, table in _PARTS.items()}
_MEDIA = select(tables.media).where(_of(tables.media))
_CHILDREN = {
    name: select(table.c.media_id, *(table.c[column] for column in _inner(table))).where(_of(table))
    for name, table in _PARTS.items()
}
