"""Messages of a queue are stored before they are deleted, whatever they contain; on each of the three databases."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, event, select

from tests.builders import NOON, body, notify
from worker.core.errors import RowRefusedError, StoreUnavailableError, VodRefusedError
from worker.store import Store
from worker.store.refused import RefusedDeliveries, RefusedFilter
from worker.store.tables import notification, sync_request
from worker.sync.poll_smq import PollResult, RedeliveryCounter, poll_queue
from worker.sync.receive import NotificationWriter
from worker.vod.smq_xml import Message

ATTEMPTS = 3


class MemoryQueue:
    """A queue in memory. An undeleted message is received again, with a higher count if `counting`."""

    def __init__(self, *bodies: str, intact: bool = True, counting: bool = True) -> None:
        self.counting = counting
        self.waiting = [Message(f"M{number}", f"H{number}", text, intact, 0) for number, text in enumerate(bodies)]
        self.deletes: list[list[str]] = []
        self.fault: Exception | None = None

    def receive(self, *, wait: int) -> list[Message]:
        self.waiting = [replace(message, dequeue_count=self._count(message)) for message in self.waiting]
        return self.waiting

    def _count(self, message: Message) -> int:
        return message.dequeue_count + 1 if self.counting else 1

    def delete(self, receipts: Sequence[str]) -> int:
        self.deletes.append(list(receipts))
        if self.fault:
            raise self.fault
        self.waiting = [message for message in self.waiting if message.receipt not in receipts]
        return len(receipts)


class Installation:
    """A store that polls a queue. `wakeups` counts the wake-ups of workers."""

    def __init__(self, store: Store, refused: RefusedDeliveries) -> None:
        self.store = store
        self.refused = refused
        self._writer = NotificationWriter(store, refused, now=lambda: NOON)
        self.redeliveries = RedeliveryCounter()
        self.wakeups = 0

    def poll(self, queue: MemoryQueue) -> PollResult:
        fixed: dict[str, Any] = {"wait": 0, "max_attempts": ATTEMPTS, "redeliveries": self.redeliveries, "now": lambda: NOON}
        return poll_queue(self._writer, queue, "default", wake_workers=self._count_wakeup, **fixed)

    def _count_wakeup(self) -> None:
        self.wakeups += 1

    def rows(self, table: Table = notification) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(select(table).order_by(table.c.media_id)))


@pytest.fixture
def installation(store: Store, tmp_path: Path) -> Iterator[Installation]:
    refused = RefusedDeliveries(tmp_path / "spool.db")
    yield Installation(store, refused)
    refused.close()


def text(media_id: str, **fields: Any) -> str:
    return body(media_id, **fields).decode()


def encoded(media_id: str) -> str:
    return base64.b64encode(body(media_id)).decode()


def test_plain_and_encoded_messages_become_notifications_with_due_requests(installation: Installation) -> None:
    queue = MemoryQueue(text("a"), encoded("b"))

    result = installation.poll(queue)

    assert result == PollResult(received=2, new=2, left=0)
    assert [(row.media_id, row.event_type, row.deliveries) for row in installation.rows()] == [
        ("a", "VideoAnalysisComplete", 1),
        ("b", "VideoAnalysisComplete", 1),
    ]
    assert [row.media_id for row in installation.rows(sync_request)] == ["a", "b"]
    assert (installation.wakeups, queue.waiting) == (1, [])


def test_a_notification_that_also_arrived_by_http_is_stored_once(installation: Installation) -> None:
    notify(installation.store, "a")

    result = installation.poll(MemoryQueue(encoded("a"), text("a")))

    assert result.new == 0
    assert [(row.media_id, row.deliveries) for row in installation.rows()] == [("a", 3)]
    assert installation.wakeups == 0


def test_an_empty_queue_causes_no_deletion_and_no_wake_up(installation: Installation) -> None:
    queue = MemoryQueue()

    assert installation.poll(queue) == PollResult()
    assert (queue.deletes, installation.wakeups) == ([], 0)


def test_nothing_is_deleted_before_the_commit(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = MemoryQueue(text("a"))
    stored_when_deleting = []
    delete = queue.delete

    def watched(receipts: Sequence[str]) -> int:
        stored_when_deleting.append(len(installation.rows()))
        return delete(receipts)

    monkeypatch.setattr(queue, "delete", watched)

    installation.poll(queue)

    assert stored_when_deleting == [1]


def test_a_message_that_could_not_be_deleted_is_received_again_and_recognised(installation: Installation) -> None:
    queue = MemoryQueue(text("a"))
    fault = queue.fault = VodRefusedError("no")
    first = installation.poll(queue)
    queue.fault = None

    again = installation.poll(queue)

    assert first == PollResult(received=1, new=1, left=1, undeleted=fault)
    assert again == PollResult(received=1, new=0, left=0)
    assert [(row.media_id, row.deliveries) for row in installation.rows()] == [("a", 2)]
    assert queue.waiting == []


# Messages that cannot be read

UNREADABLE = ["no JSON", "[1]", "{", "aGVsbG8=", "", "\ufffd\ufffd", "字" * 30_000]


@pytest.mark.parametrize("unreadable", UNREADABLE, ids=[repr(text[:10]) for text in UNREADABLE])
def test_a_message_that_is_not_a_notification_is_stored_as_unreadable_at_once(installation: Installation, unreadable: str) -> None:
    queue = MemoryQueue(unreadable, text("a"))

    result = installation.poll(queue)

    assert result == PollResult(received=2, new=2, left=0)
    stored = [row for row in installation.rows() if row.event_type is None]
    assert [(row.status, row.media_id, row.body, row.deliveries) for row in stored] == [("unreadable", None, unreadable, 1)]
    assert [row.media_id for row in installation.rows(sync_request)] == ["a"]
    assert queue.waiting == []


@pytest.mark.parametrize("counting", [True, False], ids=["the queue counts", "the queue does not"])
def test_a_message_with_a_wrong_digest_is_retried_before_it_is_stored_as_unreadable(
    installation: Installation, counting: bool
) -> None:
    queue = MemoryQueue("no JSON", "{", intact=False, counting=counting)

    left_in_queue = [installation.poll(queue).left for _ in range(ATTEMPTS)]

    assert left_in_queue == [2, 2, 0]
    assert sorted(row.body for row in installation.rows()) == ["no JSON", "{"]
    assert queue.waiting == []


def test_a_message_that_arrives_intact_the_second_time_is_a_notification(installation: Installation) -> None:
    queue = MemoryQueue("{", intact=False)
    installation.poll(queue)
    queue.waiting = [Message("M0", "H0", text("a"), True, 1)]

    installation.poll(queue)

    assert [row.media_id for row in installation.rows()] == ["a"]


def test_messages_without_an_id_are_counted_separately(installation: Installation) -> None:
    queue = MemoryQueue(intact=False, counting=False)
    for broken in ("{", "[", "no JSON"):
        queue.waiting = [Message("", "H", broken, False, 1)]
        installation.poll(queue)

    assert installation.rows() == []


def test_the_redelivery_counter_keeps_a_limited_number_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sync.poll_smq.MAX_COUNTED_MESSAGES", 2)
    redeliveries = RedeliveryCounter()
    a, b, c = (Message(name, "H", "", False, 1) for name in "abc")

    for message in (a, b, a, c):
        redeliveries.add(message)

    assert [redeliveries.count(message) for message in (a, b, c)] == [2, 0, 1]


def test_a_body_that_no_database_accepts_is_cleaned_and_shortened(installation: Installation) -> None:
    queue = MemoryQueue("\0\ud800" + "x" * 100_000 + "http://a/b?auth_key=1-2-3")

    installation.poll(queue)

    (stored,) = installation.rows()
    assert stored.body == "\ufffd\ufffd" + "x" * 65_534


def test_the_same_unreadable_message_twice_is_stored_once(installation: Installation) -> None:
    queue = MemoryQueue("no JSON", "no JSON")

    installation.poll(queue)

    assert [row.deliveries for row in installation.rows()] == [2]


def log_text(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> str:
    """Return everything that was logged or printed."""
    printed = capsys.readouterr()
    return caplog.text + printed.out + printed.err


@pytest.mark.parametrize("intact", [True, False])
def test_the_body_of_an_unreadable_message_is_not_logged(
    installation: Installation, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], intact: bool
) -> None:
    queue = MemoryQueue("hunter22 is no JSON", intact=intact)

    for _ in range(ATTEMPTS):
        installation.poll(queue)

    log = log_text(caplog, capsys)
    assert "hunter22" not in log
    assert "M0" in log


def test_a_notification_with_a_wrong_digest_is_accepted_and_logged_once(
    installation: Installation, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = MemoryQueue(text("a"), intact=False)
    queue.fault = VodRefusedError("no")

    result = [installation.poll(queue).new for _ in range(ATTEMPTS)]

    assert result == [1, 0, 0]
    assert [row.media_id for row in installation.rows(sync_request)] == ["a"]
    assert log_text(caplog, capsys).count("does not match its digest") == 1


def test_a_message_without_a_receipt_is_stored(installation: Installation) -> None:
    queue = MemoryQueue()
    queue.waiting = [Message("M", None, text("a"), True, sys.maxsize - 1)]

    result = installation.poll(queue)

    assert result == PollResult(received=1, new=1, left=1)
    assert queue.deletes == []


# The database


class Refusing:
    """A database that refuses statements and parameters that contain `word`. The word "" is in all of them."""

    def __init__(self, store: Store, word: str) -> None:
        self._engine = store.engine
        self._word = word

    def __enter__(self) -> None:
        event.listen(self._engine, "before_cursor_execute", self._refuse)

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._refuse)

    def _refuse(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if self._word in statement + str(parameters):
            raise RowRefusedError("refused")


def test_without_a_database_no_message_is_deleted_and_all_are_stored_later(installation: Installation) -> None:
    queue = MemoryQueue(text("a"), text("b"), "no JSON")

    with Refusing(installation.store, ""), pytest.raises(StoreUnavailableError):
        installation.poll(queue)
    after_the_outage = list(queue.waiting)
    installation.poll(queue)

    assert len(after_the_outage) == 3
    assert {row.media_id for row in installation.rows()} == {"a", "b", None}


def test_with_a_read_only_database_all_messages_stay_in_the_queue(installation: Installation) -> None:
    queue = MemoryQueue(text("a"), text("b"))

    with Refusing(installation.store, "INSERT"):
        for _ in range(ATTEMPTS + 1):
            with pytest.raises(StoreUnavailableError):
                installation.poll(queue)

    assert queue.deletes == []
    assert installation.poll(queue).new == 2


def test_a_notification_that_the_database_refuses_is_set_aside_and_its_asset_is_fetched(installation: Installation) -> None:
    queue = MemoryQueue(text("a"), text("b", Note="🎬"), text("c"))

    with Refusing(installation.store, "🎬"):
        result = installation.poll(queue)

    assert result == PollResult(received=3, new=2, left=0)
    assert queue.waiting == []
    assert [row.media_id for row in installation.rows()] == ["a", "c"]
    assert [row.media_id for row in installation.rows(sync_request)] == ["a", "b", "c"]
    (refused,) = installation.refused.find(RefusedFilter(), limit=10)
    assert (refused.delivery.media_id, refused.reason, refused.tries) == ("b", "refused", 1)
    assert "🎬" in refused.delivery.body


def test_a_message_is_not_deleted_if_it_can_be_neither_stored_nor_set_aside(installation: Installation) -> None:
    queue = MemoryQueue(text("b", Note="🎬"))
    installation.refused.path.mkdir()

    with Refusing(installation.store, "🎬"), pytest.raises(StoreUnavailableError):
        installation.poll(queue)

    assert queue.deletes == []
