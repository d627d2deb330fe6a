"""Transactions on each of the three databases."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import Connection, insert, select, update

from tests.builders import notify
from worker.core.wait import Wait
from worker.store import Store
from worker.store.tables import sync_request


def test_a_transaction_that_loses_a_deadlock_is_repeated(store: Store) -> None:
    notify(store, "a", "b")
    both_wrote = threading.Barrier(2, timeout=0.5)
    transactions: list[str] = []

    def write(first: str, second: str) -> None:
        def inside(connection: Connection) -> None:
            transactions.append(first)
            for media_id in (first, second):
                row = sync_request.c.media_id == media_id
                connection.execute(update(sync_request).where(row).values(attempts=sync_request.c.attempts + 1))
                # Each has locked one row and needs the other's. SQLite runs the transactions one after the other.
                with suppress(threading.BrokenBarrierError):
                    both_wrote.wait()

        store.transact(inside)

    writers = [threading.Thread(target=write, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    with store.reading() as connection:
        attempts = connection.execute(select(sync_request.c.attempts)).scalars().all()
    assert attempts == [2, 2]
    assert len(transactions) == (2 if store.engine.dialect.name == "sqlite" else 3)


def _attempts(store: Store) -> list[int]:
    with store.reading() as connection:
        return list(connection.execute(select(sync_request.c.attempts)).scalars())


def _increment(connection: Connection) -> None:
    connection.execute(update(sync_request).values(attempts=sync_request.c.attempts + 1))


@pytest.mark.filterwarnings("error")
def test_a_transaction_that_ends_in_a_wait_writes_nothing_and_holds_no_lock(store: Store) -> None:
    notify(store, "a")

    def wait(connection: Connection) -> Wait:
        _increment(connection)
        return Wait(timedelta(seconds=3))

    result = store.transact(wait)
    # This fails if the lock is still held.
    other = Store.open(store.engine.url.render_as_string(hide_password=False))
    other.transact(_increment)
    other.close()

    assert result == Wait(timedelta(seconds=3))
    assert _attempts(store) == [1]
    assert store.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # QueuePool, which every engine has, counts connections


@pytest.mark.filterwarnings("error")
def test_work_may_roll_back_by_itself_and_still_return_a_result(store: Store) -> None:
    notify(store, "a")

    def undo(connection: Connection) -> str:
        _increment(connection)
        connection.rollback()
        return "not ours"

    result = store.transact(undo)
    store.transact(_increment)

    assert result == "not ours"
    assert _attempts(store) == [1]


def test_a_transaction_that_loses_a_race_for_a_key_is_repeated(store: Store) -> None:
    notify(store, "a")
    attempts: list[int] = []

    def insert_at_first(connection: Connection) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            row = connection.execute(select(sync_request)).mappings().one()
            connection.execute(insert(sync_request), dict(row))

    store.transact(insert_at_first)

    assert len(attempts) == 2


def test_a_transaction_without_a_result_is_committed(store: Store) -> None:
    notify(store, "a")

    store.transact(_increment)

    assert _attempts(store) == [1]
