"""Transactions on each of the three databases."""

from __future__ import annotations

import threading
from contextlib import suppress

from sqlalchemy import Connection, select, update

from tests.builders import notify
from worker.store import Store
from worker.store.tables import sync_request


def test_a_transaction_that_loses_a_deadlock_is_begun_again(store: Store) -> None:
    notify(store, "a", "b")
    met = threading.Barrier(2, timeout=0.5)
    tries: list[str] = []

    def write(first: str, second: str) -> None:
        def inside(connection: Connection) -> None:
            tries.append(first)
            for media_id in (first, second):
                row = sync_request.c.media_id == media_id
                connection.execute(update(sync_request).where(row).values(attempts=sync_request.c.attempts + 1))
                # Both hold one row and want the other's; SQLite lets them in one after the other.
                with suppress(threading.BrokenBarrierError):
                    met.wait()

        store.transact(inside)

    writers = [threading.Thread(target=write, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    with store.reading() as connection:
        attempts = connection.execute(select(sync_request.c.attempts)).scalars().all()
    assert attempts == [2, 2]
    assert len(tries) == (2 if store.engine.dialect.name == "sqlite" else 3)
