"""Find the fields of an asset that a write changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, select

from worker.core.media import Media
from worker.store import tables
from worker.store.asset_rows import asset_keys, is_any_asset
from worker.store.catalogue.parts import PARTS

#: Columns of vod_media that are about our requests and not about the asset.
_BOOKKEEPING = frozenset({"source", "media_id", "first_seen_at", "observed_at", "changed_at", "content_hash"})


class Snapshot:
    """The stored rows of these assets, to be read before a write. Costs five queries, none if there are no assets."""

    def __init__(self, connection: Connection, source: str, media_ids: Collection[str]) -> None:
        self._dialect = connection.dialect.name
        self._rows: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, dict[str, set[tuple[Any, ...]]]] = {part.name: defaultdict(set) for part in PARTS}
        if not media_ids:
            return
        keys = asset_keys(source, media_ids)
        self._rows = {row.media_id: dict(row._mapping) for row in connection.execute(_MEDIA, keys)}
        for part in PARTS:
            for media_id, *values in connection.execute(_PARTS[part.name], keys):
                self._parts[part.name][media_id].add(tuple(values))

    def has_seen(self, media_id: str) -> bool:
        """Return whether VOD ever showed this asset. A row can exist without that, for an asset that was missing."""
        stored = self._rows.get(media_id)
        if stored is None:
            return False
        # The hash is NULL too if half of the row is from an older answer. Then rows of parts from that answer exist.
        return stored["content_hash"] is not None or any(media_id in rows for rows in self._parts.values())

    def changed_fields(self, asset: Media, row: Mapping[str, Any], *, with_parts: bool) -> list[str]:
        """Return the columns of vod_media that `row` changes and, with `with_parts`, the parts that `asset` changes.

        With `with_parts`, a change that none of them shows is named `raw`: it is only in VOD's answer.
        """
        stored = self._rows.get(asset.media_id, {})
        changed = [name for name, value in row.items() if name not in _BOOKKEEPING and stored.get(name) != value]
        if with_parts:
            changed += [
                part.name
                for part in PARTS
                if self._parts[part.name].get(asset.media_id, set()) != set(part.stored_values(asset, self._dialect))
            ]
            changed = changed or ["raw"]
        return changed


_MEDIA = select(tables.media).where(is_any_asset(tables.media))
_PARTS = {part.name: part.select.where(is_any_asset(part.table)) for part in PARTS}
