"""Messages of a queue become rows before they are deleted, whatever they hold. On each of the three databases."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import event, select

from tests.builders import NOON, body, notify
from worker.core.errors import StoreUnavailableError, VodRefusedError
from worker.store import Store
from worker.store.tables import notification, sync_request
from worker.sync.poll_smq import PollResult, RedeliveryCounter, poll_queue
from worker.vod.smq_xml import Message

ATTEMPTS = 3


class Shelf:
    """A queue in memory: what is received and not deleted is received again, with one more on its count if it counts."""

    def __init__(self, *bodies: str, intact: bool = True, counting: bool = True) -> None:
        self.counting = counting
        self.waiting = [Message(f"M{number}", f"H{number}", text, intact, 0) for number, text in enumerate(bodies)]
        self.deletes: list[list[str]] = []
        self.fault: Exception | None = None

    def receive(self, *, wait: int) -> list[Message]:
        self.waiting = [Message(each.message_id, each.receipt, each.body, each.intact, self._count(each)) for each in self.waiting]
        return self.waiting

    def _count(self, message: Message) -> int:
        return message.dequeue_count + 1 if self.counting else 1

    def delete(self, receipts: Sequence[str]) -> int:
        self.deletes.append(list(receipts))
        if self.fault:
            raise self.fault
        self.waiting = [each for each in self.waiting if each.receipt not in receipts]
        return len(receipts)


class House:
    """A store and what is done with a shelf before it; `rung` counts the doorbell."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.memory = RedeliveryCounter()
        self.rung = 0

    def collect(self, shelf: Shelf) -> PollResult:
        fixed: dict[str, Any] = {"wait": 0, "max_attempts": ATTEMPTS, "redeliveries": self.memory, "now": lambda: NOON}
        return poll_queue(self.store, shelf, "default", wake_workers=self._ring, **fixed)

    def _ring(self) -> None:
        self.rung += 1

    def rows(self, table: Any = notification) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(select(table).order_by(table.c.media_id)))


@pytest.fixture
def house(store: Store) -> House:
    return House(store)


def text(media_id: str, **fields: Any) -> str:
    return body(media_id, **fields).decode()


def encoded(media_id: str) -> str:
    return base64.b64encode(body(media_id)).decode()


def test_both_forms_become_notifications_that_are_due(house: House) -> None:
    shelf = Shelf(text("a"), encoded("b"))

    collected = house.collect(shelf)

    assert collected == PollResult(received=2, new=2, left=0)
    assert [(row.media_id, row.event_type, row.deliveries) for row in house.rows()] == [
        ("a", "VideoAnalysisComplete", 1),
        ("b", "VideoAnalysisComplete", 1),
    ]
    assert [row.media_id for row in house.rows(sync_request)] == ["a", "b"]
    assert (house.rung, shelf.waiting) == (1, [])


def test_a_notification_that_came_by_http_too_is_one(house: House) -> None:
    notify(house.store, "a")

    collected = house.collect(Shelf(encoded("a"), text("a")))

    assert collected.new == 0
    assert [(row.media_id, row.deliveries) for row in house.rows()] == [("a", 3)]
    assert house.rung == 0


def test_an_empty_queue_is_left_alone(house: House) -> None:
    shelf = Shelf()

    assert house.collect(shelf) == PollResult()
    assert (shelf.deletes, house.rung) == ([], 0)


def test_nothing_is_deleted_before_the_commit(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(text("a"))
    stored_when_deleting = []
    delete = shelf.delete

    def watched(receipts: Sequence[str]) -> int:
        stored_when_deleting.append(len(house.rows()))
        return delete(receipts)

    monkeypatch.setattr(shelf, "delete", watched)

    house.collect(shelf)

    assert stored_when_deleting == [1]


def test_a_message_that_could_not_be_deleted_comes_back_and_is_recognised(house: House) -> None:
    shelf = Shelf(text("a"))
    fault = shelf.fault = VodRefusedError("no")
    first = house.collect(shelf)
    shelf.fault = None

    again = house.collect(shelf)

    assert first == PollResult(received=1, new=1, left=1, undeleted=fault)
    assert again == PollResult(received=1, new=0, left=0)
    assert [(row.media_id, row.deliveries) for row in house.rows()] == [("a", 2)]
    assert shelf.waiting == []


# Poison

POISON = ["no JSON", "[1]", "{", "aGVsbG8=", "", "\ufffd\ufffd", "字" * 30_000]


@pytest.mark.parametrize("poison", POISON, ids=[repr(each[:10]) for each in POISON])
def test_what_is_no_notification_is_kept_at_once_and_sinks_nobody(house: House, poison: str) -> None:
    shelf = Shelf(poison, text("a"))

    collected = house.collect(shelf)

    assert collected == PollResult(received=2, new=2, left=0)
    kept = [row for row in house.rows() if row.event_type is None]
    assert [(row.status, row.media_id, row.body, row.deliveries) for row in kept] == [("unreadable", None, poison, 1)]
    assert [row.media_id for row in house.rows(sync_request)] == ["a"]
    assert shelf.waiting == []


@pytest.mark.parametrize("counting", [True, False], ids=["the queue counts", "the queue does not"])
def test_what_was_changed_on_its_way_may_come_again_before_it_is_kept(house: House, counting: bool) -> None:
    shelf = Shelf("no JSON", "{", intact=False, counting=counting)

    left = [house.collect(shelf).left for _ in range(ATTEMPTS)]

    assert left == [2, 2, 0]
    assert sorted(row.body for row in house.rows()) == ["no JSON", "{"]
    assert shelf.waiting == []


def test_what_came_again_as_it_was_written_is_no_poison(house: House) -> None:
    shelf = Shelf("{", intact=False)
    house.collect(shelf)
    shelf.waiting = [Message("M0", "H0", text("a"), True, 1)]

    house.collect(shelf)

    assert [row.media_id for row in house.rows()] == ["a"]


def test_messages_without_an_id_are_counted_apart(house: House) -> None:
    shelf = Shelf(intact=False, counting=False)
    for broken in ("{", "[", "no JSON"):
        shelf.waiting = [Message("", "H", broken, False, 1)]
        house.collect(shelf)

    assert house.rows() == []


def test_only_so_many_messages_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sync.poll_smq.MAX_COUNTED_MESSAGES", 2)
    memory = RedeliveryCounter()
    a, b, c = (Message(name, "H", "", False, 1) for name in "abc")

    for message in (a, b, a, c):
        memory.add(message)

    assert [memory.count(message) for message in (a, b, c)] == [2, 0, 1]


def test_a_text_that_no_database_takes_is_made_safe_and_short(house: House) -> None:
    shelf = Shelf("\0\ud800" + "x" * 100_000 + "http://a/b?auth_key=1-2-3")

    house.collect(shelf)

    (kept,) = house.rows()
    assert kept.body == "\ufffd\ufffd" + "x" * 65_534


def test_the_same_poison_twice_is_kept_once(house: House) -> None:
    shelf = Shelf("no JSON", "no JSON")

    house.collect(shelf)

    assert [row.deliveries for row in house.rows()] == [2]


def said(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> str:
    """What was logged, wherever it went."""
    printed = capsys.readouterr()
    return caplog.text + printed.out + printed.err


@pytest.mark.parametrize("intact", [True, False])
def test_the_body_of_poison_stands_in_no_log(
    house: House, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], intact: bool
) -> None:
    shelf = Shelf("hunter22 is no JSON", intact=intact)

    for _ in range(ATTEMPTS):
        house.collect(shelf)

    log = said(caplog, capsys)
    assert "hunter22" not in log
    assert "M0" in log


def test_a_notification_that_does_not_fit_its_digest_is_taken_and_told_once(
    house: House, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = Shelf(text("a"), intact=False)
    shelf.fault = VodRefusedError("no")

    collected = [house.collect(shelf).new for _ in range(ATTEMPTS)]

    assert collected == [1, 0, 0]
    assert [row.media_id for row in house.rows(sync_request)] == ["a"]
    assert said(caplog, capsys).count("does not match its digest") == 1


def test_a_message_without_a_receipt_is_stored_all_the_same(house: House) -> None:
    shelf = Shelf()
    shelf.waiting = [Message("M", None, text("a"), True, sys.maxsize - 1)]

    collected = house.collect(shelf)

    assert collected == PollResult(received=1, new=1, left=1)
    assert shelf.deletes == []


# The database


class Refusing:
    """A database that refuses what mentions `word`, and everything where that is ""."""

    def __init__(self, store: Store, word: str) -> None:
        self._engine = store.engine
        self._word = word

    def __enter__(self) -> None:
        event.listen(self._engine, "before_cursor_execute", self._refuse)

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._refuse)

    def _refuse(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if self._word in statement + str(parameters):
            raise StoreUnavailableError("refused")


def test_without_a_database_nothing_is_deleted_and_everything_comes_back(house: House) -> None:
    shelf = Shelf(text("a"), text("b"), "no JSON")

    with Refusing(house.store, ""), pytest.raises(StoreUnavailableError):
        house.collect(shelf)
    away = list(shelf.waiting)
    house.collect(shelf)

    assert len(away) == 3
    assert {row.media_id for row in house.rows()} == {"a", "b", None}


def test_a_database_that_only_reads_keeps_everything_in_the_queue(house: House) -> None:
    shelf = Shelf(text("a"), text("b"))

    with Refusing(house.store, "INSERT"):
        for _ in range(ATTEMPTS + 1):
            with pytest.raises(StoreUnavailableError):
                house.collect(shelf)

    assert shelf.deletes == []
    assert house.collect(shelf).new == 2


@pytest.mark.parametrize("counting", [True, False], ids=["the queue counts", "the queue does not"])
def test_one_notification_that_the_database_does_not_take_sinks_nobody_and_is_fetched_all_the_same(
    house: House, counting: bool
) -> None:
    shelf = Shelf(text("a"), text("b", Note="🎬"), text("c"), counting=counting)

    with Refusing(house.store, "🎬"):
        first = house.collect(shelf)
        # Alone it looks as if the database took nothing at all.
        with pytest.raises(StoreUnavailableError):
            house.collect(shelf)
        house.collect(shelf)

    assert first == PollResult(received=3, new=2, left=1)
    assert shelf.waiting == []
    (reduced,) = [row for row in house.rows() if row.status == "unreadable"]
    assert (reduced.media_id, reduced.event_type) == ("b", None)
    assert "\\U0001f3ac" in reduced.body
    assert [row.media_id for row in house.rows(sync_request)] == ["a", "b", "c"]


def test_a_deletion_that_the_database_refuses_is_not_recorded_as_one(house: House) -> None:
    deletion = text("a", event="DeleteMediaComplete", DeleteType="all", MediaType="video", Note="🎬")
    shelf = Shelf(deletion, counting=True)

    with Refusing(house.store, "🎬"):
        for _ in range(ATTEMPTS - 1):
            with pytest.raises(StoreUnavailableError):
                house.collect(shelf)
        house.collect(shelf)

    (reduced,) = house.rows()
    assert (reduced.media_id, reduced.status, reduced.deletes) == ("a", "unreadable", False)
