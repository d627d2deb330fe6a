"""Queue messages while the database is away or refuses one, on each of the three databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from tests.builders import NOON, body
from worker.core.errors import RowRefusedError, StoreUnavailableError
from worker.store import Store
from worker.store.refused import RefusedDeliveries
from worker.store.tables import notification
from worker.sync.poll_smq import PollResult, RedeliveryCounter, poll_queue
from worker.sync.receive import NotificationWriter
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
        #: Set `is_away` when a statement is refused.
        self.leaves_after_refusal = False

    def before_cursor_execute(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if self.is_away:
            raise StoreUnavailableError("away")
        if REFUSED in statement + str(parameters):
            self.is_away = self.leaves_after_refusal
            raise RowRefusedError("refused")


@contextmanager
def refusing(store: Store) -> Iterator[Database]:
    database = Database()
    event.listen(store.engine, "before_cursor_execute", database.before_cursor_execute)
    try:
        yield database
    finally:
        event.remove(store.engine, "before_cursor_execute", database.before_cursor_execute)


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[RefusedDeliveries]:
    opened = RefusedDeliveries(tmp_path / "spool.db")
    yield opened
    opened.close()


@pytest.fixture
def poll_once(store: Store, refused: RefusedDeliveries) -> Callable[..., PollResult]:
    """Return a function that polls a queue once, with a counter of redeliveries."""
    writer = NotificationWriter(store, refused, now=lambda: NOON)

    def poll(queue: UncountedQueue, redeliveries: RedeliveryCounter) -> PollResult:
        return poll_queue(
            writer,
            queue,
            "default",
            wait=0,
            max_attempts=ATTEMPTS,
            redeliveries=redeliveries,
            now=lambda: NOON,
            wake_workers=lambda: None,
        )

    return poll


def message(media_id: str, *, intact: bool = True, **fields: Any) -> Message:
    return Message(f"M-{media_id}", f"H-{media_id}", body(media_id, **fields).decode(), intact, 1)


def statuses(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {row.media_id: row.status for row in connection.execute(select(notification))}


def test_an_outage_of_the_database_refuses_no_message(
    store: Store, refused: RefusedDeliveries, poll_once: Callable[..., PollResult]
) -> None:
    redeliveries = RedeliveryCounter()
    queue = UncountedQueue(message("a"), message("b", Note=REFUSED))

    with refusing(store) as database:
        database.is_away = True
        for _ in range(ATTEMPTS):
            with pytest.raises(StoreUnavailableError):
                poll_once(queue, redeliveries)
        refused_while_away = refused.summary().count
        database.is_away = False
        result = poll_once(queue, redeliveries)

    assert refused_while_away == 0
    assert result == PollResult(received=2, new=1, left=0)
    assert (statuses(store), refused.summary().count) == ({"a": "success"}, 1)


def test_a_database_that_goes_away_after_a_refusal_is_not_asked_about_the_message(
    store: Store, refused: RefusedDeliveries, poll_once: Callable[..., PollResult]
) -> None:
    queue = UncountedQueue(message("b", Note=REFUSED))

    with refusing(store) as database:
        database.leaves_after_refusal = True
        with pytest.raises(StoreUnavailableError):
            poll_once(queue, RedeliveryCounter())

    assert refused.summary().count == 0
    assert len(queue.messages) == 1


def test_a_damaged_message_that_the_database_refuses_is_set_aside_at_its_last_attempt(
    store: Store, refused: RefusedDeliveries, poll_once: Callable[..., PollResult]
) -> None:
    redeliveries = RedeliveryCounter()
    queue = UncountedQueue(message("b", intact=False, Note=REFUSED))

    with refusing(store):
        left = [poll_once(queue, redeliveries).left for _ in range(ATTEMPTS)]

    assert left == [1, 1, 0]
    assert (statuses(store), refused.summary().count) == ({}, 1)
