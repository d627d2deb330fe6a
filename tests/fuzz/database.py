"""A SQLite store with our schema in a temporary folder, fast because nothing has to survive a crash."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import delete, event

from worker.store import Store, schema, tables


class Database:
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vodsync-fuzz-"))
        url = f"sqlite:///{self.folder / 'vodsync.db'}"
        schema.upgrade(url)
        self.store = Store.open(url)
        event.listen(self.store.engine, "connect", _do_not_wait_for_the_disk)

    def empty(self, *names: str) -> None:
        """Delete all rows of the named tables."""
        with self.store.engine.begin() as connection:
            for name in names:
                connection.execute(delete(tables.metadata.tables[name]))

    def close(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


def _do_not_wait_for_the_disk(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")
