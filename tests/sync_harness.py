"""One installation with a fake VOD and a clock that the test sets: each step claims, fetches and stores one batch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Table, select

from tests.builders import NOON, SECOND, source_context
from worker.store import Store
from worker.store.tables import media, sync_request
from worker.sync.batch import sync_batch
from worker.vod.testing import FakeVod


class Installation:
    """A store, a fake VOD and a clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.vod = FakeVod()
        self.now = NOON + SECOND

    def run(self) -> None:
        sync_batch(self.store, source_context(self.vod), now=self.now)

    def run_until_settled(self) -> list[float]:
        """Run every batch until no request is due. Return the pauses between them, in seconds."""
        self.run()
        pauses = []
        while (requests := self.requests()) and requests[0].state == "due":
            pauses.append((requests[0].available_at - self.now).total_seconds())
            self.now = requests[0].available_at + SECOND
            self.run()
        return pauses

    def requests(self) -> list[Any]:
        return self.rows(sync_request)

    def rows(self, table: Table) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(select(table).order_by(table.c.media_id)))

    def state(self) -> tuple[str, datetime | None]:
        """Return the state of the first asset, and when it was deleted."""
        row = self.rows(media)[0]
        return row.state, row.deleted_at


def replace_method(target: object, name: str, method: Callable[..., Any]) -> None:
    """Replace a method of one object."""
    setattr(target, name, method)
