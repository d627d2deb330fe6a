"""Claim due rows by priority: what vod_sync_request and vod_video_info have in common."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, Update, bindparam, select, update

from worker.store.asset_rows import is_any_asset
from worker.store.dialects import force_index


def select_due(table: Table, columns: Sequence[str], *, index: str, condition: ColumnElement[bool] | None = None) -> Select[Any]:
    """Return the query for `lock_due`: the due rows of one source and priority, the longest due first.

    Rows that another transaction has locked are skipped. `index` begins with the columns of `condition`, followed by priority,
    source and available_at: a sort would lock every candidate on MariaDB.
    """
    query = (
        select(*(table.c[name] for name in columns))
        .where(
            table.c.source == bindparam("key_source"),
            table.c.priority == bindparam("priority"),
            table.c.available_at <= bindparam("now"),
        )
        .order_by(table.c.available_at)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )
    return force_index(query if condition is None else query.where(condition), table, index)


def lock_due(
    connection: Connection, query: Select[Any], source: str, *, priorities: Sequence[int], limit: int, now: datetime
) -> list[Row[*tuple[Any, ...]]]:
    """Lock and return up to `limit` due rows of a source, those of the first priority first."""
    rows: list[Row[*tuple[Any, ...]]] = []
    for priority in priorities:
        parameters = {"key_source": source, "priority": priority, "now": now, "limit": limit - len(rows)}
        rows += connection.execute(query, parameters).all()
        if len(rows) == limit:
            break
    return rows


def update_claimed(table: Table) -> Update:
    """Return the statement that claims rows: other workers skip them until `until`. Its other parameter is the claim's `token`."""
    return update(table).where(is_any_asset(table)).values(claim=bindparam("token"), available_at=bindparam("until"))
