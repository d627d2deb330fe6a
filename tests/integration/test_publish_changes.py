"""Publish changes in order, once unless something fails, and by one process at a time; on each of the three databases."""

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


class RecordingPublisher:
    """Records what is sent. Fails before `failing` assets, and after `lost` ones, which it records."""

    def __init__(self, *, closed: bool = False, failing: str = "", lost: str = "") -> None:
        self.closed = closed
        self.failing = failing
        self.lost = lost
        self.sent_ids: list[str] = []

    def open(self) -> None:
        if self.closed:
            raise ConnectionError("connection refused")

    def send(self, change: Change) -> None:
        if change.media_id in self.failing.split():
            raise ConnectionError("connection reset")
        self.sent_ids.append(change.media_id)
        if change.media_id in self.lost.split():
            raise TimeoutError("no answer")


def save(store: Store, *media_ids: str, at: int = 0) -> None:
    medias = [clip(media_id) for media_id in media_ids]
    store.transact(lambda connection: Catalogue(connection, announce=True).save("default", medias, observed_at=NOON + at * SECOND))


def publish(store: Store, publisher: RecordingPublisher, *, holder: str = "us") -> int:
    return publish_changes(store, publisher, holder=holder, stopping=threading.Event())


def drop_old(store: Store, stopping: threading.Event) -> int:
    day = timedelta(hours=24)
    return drop_old_changes(store, now=NOON + day + SECOND, keep=day, stopping=stopping)


def pending(store: Store) -> list[str]:
    with store.reading() as connection:
        return [change.media_id for change in Outbox(connection).oldest(100)]


def take(store: Store, holder: str, seconds: float = 60) -> bool:
    return store.transact(lambda connection: Leases(connection).claim("changes", holder, timedelta(seconds=seconds)))


def test_published_changes_are_deleted(store: Store) -> None:
    save(store, "a", "b", "c")
    publisher = RecordingPublisher()

    sent = [publish(store, publisher), publish(store, publisher)]

    assert sent == [3, 0]
    assert (publisher.sent_ids, pending(store)) == (["a", "b", "c"], [])


def test_after_a_failure_the_rest_is_published_later_in_order(store: Store) -> None:
    save(store, "a", "b", "c")
    publisher = RecordingPublisher(failing="b")

    with pytest.raises(ConnectionError):
        publish(store, publisher)
    left = pending(store)
    publisher.failing = ""
    publish(store, publisher)

    assert left == ["b", "c"]
    assert publisher.sent_ids == ["a", "b", "c"]


def test_a_change_without_confirmation_is_sent_again(store: Store) -> None:
    save(store, "a", "b", "c")
    publisher = RecordingPublisher(lost="b")

    with pytest.raises(TimeoutError):
        publish(store, publisher)
    publisher.lost = ""
    publish(store, publisher)

    assert (publisher.sent_ids, pending(store)) == (["a", "b", "b", "c"], [])


def test_a_publisher_that_cannot_reach_the_broker_releases_the_lease(store: Store) -> None:
    save(store, "a")

    with pytest.raises(ConnectionError):
        publish(store, RecordingPublisher(closed=True), holder="cut off")

    assert publish(store, RecordingPublisher(), holder="another") == 1


def test_a_publisher_that_fails_releases_the_lease(store: Store) -> None:
    save(store, "a")

    with pytest.raises(ConnectionError):
        publish(store, RecordingPublisher(failing="a"), holder="cut off")

    assert publish(store, RecordingPublisher(), holder="another") == 1


def test_only_the_holder_of_the_lease_publishes(store: Store) -> None:
    save(store, "a")
    take(store, "another")
    publisher = RecordingPublisher()

    assert publish(store, publisher) == 0
    assert (publisher.sent_ids, pending(store)) == ([], ["a"])


def test_the_lease_of_a_killed_publisher_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_time = FakeTime().install(monkeypatch, "worker.store.leases")
    save(store, "a")
    take(store, "killed", seconds=20)

    fake_time.sleep(19.9)
    sent_before_the_end = publish(store, RecordingPublisher())
    fake_time.sleep(0.1)
    sent_after_the_end = publish(store, RecordingPublisher())

    assert (sent_before_the_end, sent_after_the_end) == (0, 1)


def test_a_lease_has_one_holder_until_it_is_released(store: Store) -> None:
    results = [take(store, "us"), take(store, "us"), take(store, "them")]

    store.transact(lambda connection: Leases(connection).release("changes", "them"))
    results.append(take(store, "them"))
    store.transact(lambda connection: Leases(connection).release("changes", "us"))
    results.append(take(store, "them"))

    assert results == [True, True, False, False, True]


def test_one_of_several_concurrent_claims_gets_the_lease(store: Store) -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda name=name: results.append(take(store, name))) for name in "abcd"]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert sorted(results) == [False, False, False, True]


def test_a_publisher_that_is_stopped_sends_no_more_changes(store: Store) -> None:
    save(store, "a", "b")
    stopping = threading.Event()

    class StoppingPublisher(RecordingPublisher):
        def send(self, change: Change) -> None:
            super().send(change)
            stopping.set()

    publisher = StoppingPublisher()
    sent = publish_changes(store, publisher, holder="us", stopping=stopping)

    assert (sent, publisher.sent_ids, pending(store)) == (1, ["a"], ["b"])


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_a_change_with_a_lower_id_that_commits_later_is_published(store: Store) -> None:
    """An id is assigned before the commit: 'late' has a lower id than 'b' and commits while 'b' is sent. SQLite has one writer."""
    late = store.engine.connect()
    transaction = late.begin()
    Catalogue(late, announce=True).save("default", [clip("late")], observed_at=NOON)
    save(store, "b")

    class CommittingPublisher(RecordingPublisher):
        def send(self, change: Change) -> None:
            super().send(change)
            if transaction.is_active:
                transaction.commit()

    publisher = CommittingPublisher()
    publish(store, publisher)
    left = pending(store)
    publish(store, publisher)
    late.close()

    assert (left, publisher.sent_ids) == (["late"], ["b", "late"])


def test_old_changes_that_were_not_published_are_dropped(store: Store) -> None:
    save(store, "a", "b")
    save(store, "c", at=3600)

    dropped = drop_old(store, threading.Event())

    assert (dropped, pending(store)) == (2, ["c"])


def test_dropping_ends_when_the_worker_stops(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sync.publish_changes.DROP_PAGE_SIZE", 1)
    save(store, "a", "b")

    class SetAfterFirstCheck(threading.Event):
        def is_set(self) -> bool:
            was_set = super().is_set()
            self.set()
            return was_set

    dropped = drop_old(store, SetAfterFirstCheck())

    assert (dropped, pending(store)) == (1, ["b"])
