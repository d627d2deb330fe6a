"""Handing changes over: in order, once where nothing breaks, and by one process at a time; on each of the three databases."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from tests.builders import NOON, clip
from tests.fake_time import FakeTime
from worker.store import Store
from worker.store.catalogue.assets import Catalogue
from worker.store.leases import Leases
from worker.store.outbox import Change, Outbox
from worker.sync.publish_changes import drop_old_changes, publish_changes

SECOND = timedelta(seconds=1)


class ChangePublisher:
    """Takes what is sent; `breaks` at those media, and says nothing of `lost` ones although it took them."""

    def __init__(self, *, closed: bool = False, breaks: str = "", lost: str = "") -> None:
        self.closed = closed
        self.breaks = breaks
        self.lost = lost
        self.taken: list[str] = []

    def open(self) -> None:
        if self.closed:
            raise ConnectionError("nobody there")

    def send(self, change: Change) -> None:
        if change.media_id in self.breaks.split():
            raise ConnectionError("gone")
        self.taken.append(change.media_id)
        if change.media_id in self.lost.split():
            raise TimeoutError("no answer")


def save(store: Store, *media_ids: str, at: int = 0) -> None:
    medias = [clip(media_id) for media_id in media_ids]
    store.transact(lambda connection: Catalogue(connection, announce=True).save("default", medias, observed_at=NOON + at * SECOND))


def hand_over(store: Store, line: ChangePublisher, *, holder: str = "us") -> int:
    return publish_changes(store, line, holder=holder, stopping=threading.Event())


def drop(store: Store, stopping: threading.Event) -> int:
    day = timedelta(hours=24)
    return drop_old_changes(store, now=NOON + day + SECOND, keep=day, stopping=stopping)


def waiting(store: Store) -> list[str]:
    with store.reading() as connection:
        return [each.media_id for each in Outbox(connection).oldest(100)]


def take(store: Store, holder: str, seconds: float = 60) -> bool:
    return store.transact(lambda connection: Leases(connection).claim("changes", holder, timedelta(seconds=seconds)))


def test_what_arrived_is_forgotten(store: Store) -> None:
    save(store, "a", "b", "c")
    line = ChangePublisher()

    sent = [hand_over(store, line), hand_over(store, line)]

    assert sent == [3, 0]
    assert (line.taken, waiting(store)) == (["a", "b", "c"], [])


def test_a_line_that_breaks_keeps_the_rest_for_later_in_order(store: Store) -> None:
    save(store, "a", "b", "c")
    line = ChangePublisher(breaks="b")

    with pytest.raises(ConnectionError):
        hand_over(store, line)
    left = waiting(store)
    line.breaks = ""
    hand_over(store, line)

    assert left == ["b", "c"]
    assert line.taken == ["a", "b", "c"]


def test_what_may_not_have_arrived_is_sent_again(store: Store) -> None:
    save(store, "a", "b", "c")
    line = ChangePublisher(lost="b")

    with pytest.raises(TimeoutError):
        hand_over(store, line)
    line.lost = ""
    hand_over(store, line)

    assert (line.taken, waiting(store)) == (["a", "b", "b", "c"], [])


def test_one_that_cannot_reach_the_broker_leaves_the_lease_to_others(store: Store) -> None:
    save(store, "a")

    with pytest.raises(ConnectionError):
        hand_over(store, ChangePublisher(closed=True), holder="cut off")

    assert hand_over(store, ChangePublisher(), holder="another") == 1


def test_one_whose_line_broke_gives_the_lease_back(store: Store) -> None:
    save(store, "a")

    with pytest.raises(ConnectionError):
        hand_over(store, ChangePublisher(breaks="a"), holder="cut off")

    assert hand_over(store, ChangePublisher(), holder="another") == 1


def test_nobody_sends_while_another_is_at_it(store: Store) -> None:
    save(store, "a")
    take(store, "another")
    line = ChangePublisher()

    assert hand_over(store, line) == 0
    assert (line.taken, waiting(store)) == ([], ["a"])


def test_the_lease_of_one_that_was_killed_ends_by_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_time = FakeTime().install(monkeypatch, "worker.store.leases")
    save(store, "a")
    take(store, "killed", seconds=20)

    fake_time.sleep(19.9)
    sent_before_the_end = hand_over(store, ChangePublisher())
    fake_time.sleep(0.1)
    sent_after_the_end = hand_over(store, ChangePublisher())

    assert (sent_before_the_end, sent_after_the_end) == (0, 1)


def test_a_lease_is_its_holders_alone_until_given_back(store: Store) -> None:
    took = [take(store, "us"), take(store, "us"), take(store, "them")]

    store.transact(lambda connection: Leases(connection).release("changes", "them"))
    took.append(take(store, "them"))
    store.transact(lambda connection: Leases(connection).release("changes", "us"))
    took.append(take(store, "them"))

    assert took == [True, True, False, False, True]


def test_of_many_that_come_first_together_one_gets_the_lease(store: Store) -> None:
    took: list[bool] = []
    threads = [threading.Thread(target=lambda name=name: took.append(take(store, name))) for name in "abcd"]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert sorted(took) == [False, False, False, True]


def test_one_that_is_asked_to_stop_sends_no_more(store: Store) -> None:
    save(store, "a", "b")
    stopping = threading.Event()

    class Last(ChangePublisher):
        def send(self, change: Change) -> None:
            super().send(change)
            stopping.set()

    line = Last()
    sent = publish_changes(store, line, holder="us", stopping=stopping)

    assert (sent, line.taken, waiting(store)) == (1, ["a"], ["b"])


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_a_change_that_comes_meanwhile_with_a_lower_id_is_not_swept_away(store: Store) -> None:
    """Ids are given before the commit: 'late' has a lower one than 'b', committed while 'b' is sent. SQLite has one writer."""
    late = store.engine.connect()
    transaction = late.begin()
    Catalogue(late, announce=True).save("default", [clip("late")], observed_at=NOON)
    save(store, "b")

    class Meanwhile(ChangePublisher):
        def send(self, change: Change) -> None:
            super().send(change)
            if transaction.is_active:
                transaction.commit()

    line = Meanwhile()
    hand_over(store, line)
    left = waiting(store)
    hand_over(store, line)
    late.close()

    assert (left, line.taken) == (["late"], ["b", "late"])


def test_what_nobody_took_in_time_is_dropped(store: Store) -> None:
    save(store, "a", "b")
    save(store, "c", at=3600)

    dropped = drop(store, threading.Event())

    assert (dropped, waiting(store)) == (2, ["c"])


def test_one_that_is_asked_to_stop_drops_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sync.publish_changes.DROP_PAGE_SIZE", 1)
    save(store, "a", "b")

    class Soon(threading.Event):
        def is_set(self) -> bool:
            asked = super().is_set()
            self.set()
            return asked

    dropped = drop(store, Soon())

    assert (dropped, waiting(store)) == (1, ["b"])
