"""Count the attempts to store queue messages while the database is away or refuses one, on each of the three databases."""

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
from worker.sync import poll_smq
from worker.sync.poll_smq import PollResult, RedeliveryCounter, poll_queue
from worker.vod.smq_xml import Message

ATTEMPTS = 3

#: Part of a notification that the database of these tests refuses.
REFUSED = "🎬"


class UncountedQueue:
    """A queue in memory that does not count deliveries: it delivers each message as if for the first time until it is deleted."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)

    def receive(self, *, wait: int) -> list[Message]:
        return list(self.messages)

    def delete(self, receipts: Sequence[str]) -> int:
        self.messages = [message for message in self.messages if message.receipt not in receipts]
        return len(receipts)


class Database:
    """Refuses statements that contain REFUSED, and all statements while `is_away`."""

    def __init__(self) -> None:
        self.is_away = False
        #: Set `is_away` after the next connection check (SELECT 1).
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


def poll_once(store: Store, queue: UncountedQueue, redeliveries: RedeliveryCounter) -> PollResult:
    return poll_queue(
        store,
        queue,
        "default",
        wait=0,
        max_attempts=ATTEMPTS,
        redeliveries=redeliveries,
        now=lambda: NOON,
        wake_workers=lambda: None,
    )


def statuses(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {row.media_id: row.status for row in connection.execute(select(notification))}


def test_an_outage_of_the_database_counts_as_no_attempt_of_its_messages(store: Store) -> None:
    refused, redeliveries = message("b", Note=REFUSED), RedeliveryCounter()
    queue = UncountedQueue(message("a"), refused)

    with refusing(store) as database:
        database.is_away = True
        for _ in range(ATTEMPTS):
            with pytest.raises(StoreUnavailableError):
                poll_once(store, queue, redeliveries)
        counted_while_away = redeliveries.count(refused)
        database.is_away = False
        result = poll_once(store, queue, redeliveries)

    assert counted_while_away == 0
    # The database refused it for the first time, so that it comes back.
    assert result == PollResult(received=2, new=1, left=1)
    assert statuses(store) == {"a": "success"}


def test_a_database_that_goes_away_at_the_last_attempt_does_not_count_as_refusing_the_message(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, redeliveries, log = message("b", Note=REFUSED), RedeliveryCounter(), Log()
    queue = UncountedQueue(refused)
    monkeypatch.setattr(poll_smq, "log", log)
    for _ in range(ATTEMPTS - 1):
        redeliveries.add(refused)

    with refusing(store) as database:
        database.leaves_after_check = True
        with pytest.raises(StoreUnavailableError):
            poll_once(store, queue, redeliveries)

    assert redeliveries.count(refused) == ATTEMPTS - 1
    assert "queue message cannot be stored" not in log.phrases


def test_a_damaged_message_that_the_database_refuses_counts_once_per_delivery(store: Store) -> None:
    damaged, redeliveries = message("b", intact=False, Note=REFUSED), RedeliveryCounter()
    queue = UncountedQueue(damaged)
    counts = []

    with refusing(store):
        for _ in range(ATTEMPTS - 1):
            with pytest.raises(StoreUnavailableError):
                poll_once(store, queue, redeliveries)
            counts.append(redeliveries.count(damaged))
        result = poll_once(store, queue, redeliveries)

    assert counts == [1, 2]
    assert result == PollResult(received=1, new=1, left=0)
    assert statuses(store) == {"b": "unreadable"}
