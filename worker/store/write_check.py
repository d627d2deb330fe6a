"""Check whether the database accepts an ordinary notification and its sync request, without leaving a trace."""

from __future__ import annotations

import shutil
import uuid
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, delete, false, insert, select, update

from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.inbox.notifications import Delivery, Notifications
from worker.store.tables import metadata, sync_request

MIN_FREE_SPACE = 2**20  # bytes; a notification has at most as many


def check_write(store: Store, *, now: datetime) -> None:
    """Insert, update and delete rows, and roll back. Raises StoreUnavailableError if the database does not accept them.

    SQLite writes to the disk only at the commit, so a page without meaning is committed there.
    """
    store.transact(lambda connection: _write_and_roll_back(connection, now))
    if store.engine.dialect.name == "sqlite":
        store.transact(commit_page)
        require_free_space(Path(store.engine.url.database or ""))


def check_privileges(store: Store) -> None:
    """Run each kind of statement on every table, for no row. Raises StoreUnavailableError if the user lacks a privilege."""
    store.transact(_touch_tables)


def _touch_tables(connection: Connection) -> None:
    # Databases check the privileges of a statement before they look for rows.
    for table in metadata.sorted_tables:
        column = next(iter(table.columns))
        no_rows = select(table).where(false())
        connection.execute(no_rows)
        connection.execute(insert(table).from_select(list(table.columns), no_rows))
        connection.execute(update(table).where(false()).values({column: column}))
        connection.execute(delete(table).where(false()))
    connection.rollback()


def commit_page(connection: Connection) -> None:
    """Change a page of a SQLite file in the caller's transaction. The number is of no use to us otherwise."""
    connection.exec_driver_sql("PRAGMA user_version = 0")


def require_free_space(file: Path) -> None:
    """Raises StoreUnavailableError if the disk of a SQLite database has no space for a large notification."""
    free = shutil.disk_usage(file.absolute().parent).free
    if free < MIN_FREE_SPACE:
        raise StoreUnavailableError(f"only {free // 1024} KB are free on the disk of the database {file}; free some space")


def _write_and_roll_back(connection: Connection, now: datetime) -> None:
    key = {"source": "write-check", "media_id": uuid.uuid4().hex}
    Notifications(connection).record(
        [
            Delivery(
                source=key["source"],
                event_key=key["media_id"],
                event_type="WriteCheck",
                media_id=key["media_id"],
                event_time=now,
                status="success",
                body="{}",
                received_at=now,
                deletes=False,
            )
        ]
    )
    values = {"reason": "write-check", "priority": 0, "generation": 1, "attempts": 0, "state": "dead"}
    connection.execute(insert(sync_request), {**key, **values, "requested_at": now, "available_at": now})
    same = (sync_request.c.source == key["source"]) & (sync_request.c.media_id == key["media_id"])
    connection.execute(update(sync_request).where(same).values(attempts=1))
    connection.execute(delete(sync_request).where(same))
    connection.rollback()
