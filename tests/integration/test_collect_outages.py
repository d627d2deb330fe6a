"""How queue messages are counted when the database is away or does not take one of them, on each of the three databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, select

from tests.builders import NOON, Log, body
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.tables import notification
from worker.sync import poll_smq as collect_module
from worker.sync.poll_smq import Collected, RedeliveryCounter, collect
from worker.vod.smq_xml import Message

ATTEMPTS = 3

#: Part of a notification that the database of these tests refuses.
REFUSED = "🎬"


class Shelf:
    """A queue in memory that does not count: every message comes as if for the first time until it is deleted."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)

    def receive(self, *, wait: int) -> list[Message]:
        return list(self.messages)

    def delete(self, receipts: Sequence[str]) -> int:
        self.messages = [message for message in self.messages if message.receipt not in receipts]
        return len(receipts)


class Database:
    """Refuses statements that mention REFUSED, and all of them while it is away."""

    def __init__(self) -> None:
        self.is_away = False
        #: Goes away once it has answered the question whether it is there.
        self.leaves_after_check = False

    def before_cursor_execute(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if self.is_away:
            raise StoreUnavailableError("away")
        if REFUSED in statement + str(parameters):
            raise StoreUnavailableError("refused")
        if statement == "SELECT 1":
            self.is_away = self.leaves_after_check


@contextmanager
def refusing(store: Store) -> Iterator[Database]:
    database = Database()
    event.listen(store.engine, "before_cursor_execute", database.before_cursor_execute)
    try:
        yield database
    finally:
        event.remove(store.engine, "before_cursor_execute", database.before_cursor_execute)


def message(media_id: str, *, intact: bool = True, **fields: Any) -> Message:
    return Message(f"M-{media_id}", f"H-{media_id}", body(media_id, **fields).decode(), intact, 1)


def collect_once(store: Store, shelf: Shelf, memory: RedeliveryCounter) -> Collected:
    return collect(
        store, shelf, "default", wait=0, max_attempts=ATTEMPTS, memory=memory, now=lambda: NOON, wake_workers=lambda: None
    )


def statuses(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {row.media_id: row.status for row in connection.execute(select(notification))}


def test_an_outage_of_the_database_counts_as_no_attempt_of_its_messages(store: Store) -> None:
    refused, memory = message("b", Note=REFUSED), RedeliveryCounter()
    shelf = Shelf(message("a"), refused)

    with refusing(store) as database:
        database.is_away = True
        for _ in range(ATTEMPTS):
            with pytest.raises(StoreUnavailableError):
                collect_once(store, shelf, memory)
        counted_while_away = memory.count(refused)
        database.is_away = False
        collected = collect_once(store, shelf, memory)

    assert counted_while_away == 0
    # The database refused it for the first time, so that it comes back.
    assert collected == Collected(received=2, new=1, left=1)
    assert statuses(store) == {"a": "success"}


def test_a_database_that_goes_away_at_the_last_attempt_does_not_count_as_refusing_the_message(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, memory, log = message("b", Note=REFUSED), RedeliveryCounter(), Log()
    shelf = Shelf(refused)
    monkeypatch.setattr(collect_module, "log", log)
    for _ in range(ATTEMPTS - 1):
        memory.note(refused)

    with refusing(store) as database:
        database.leaves_after_check = True
        with pytest.raises(StoreUnavailableError):
            collect_once(store, shelf, memory)

    assert memory.count(refused) == ATTEMPTS - 1
    assert "queue message cannot be stored" not in log.phrases


def test_a_damaged_message_that_the_database_refuses_counts_once_per_delivery(store: Store) -> None:
    damaged, memory = message("b", intact=False, Note=REFUSED), RedeliveryCounter()
    shelf = Shelf(damaged)
    counts = []

    with refusing(store):
        for _ in range(ATTEMPTS - 1):
            with pytest.raises(StoreUnavailableError):
                collect_once(store, shelf, memory)
            counts.append(memory.count(damaged))
        collected = collect_once(store, shelf, memory)

    assert counts == [1, 2]
    assert collected == Collected(received=1, new=1, left=0)
    assert statuses(store) == {"b": "unreadable"}
