"""The spool: its notifications are moved to the database in order and once, also if a process dies in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select, text

from tests.builders import NOON, SECOND, body
from worker.core import events
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store import spool as spool_module
from worker.store.inbox.notifications import Delivery
from worker.store.spool import Spool, Spooled
from worker.store.tables import notification
from worker.sync.receive import delivery, receive


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool.db")
    yield opened
    opened.close()


def deliveries(*media_ids: str) -> list[Delivery]:
    return [
        delivery("default", events.parse(body(media_id)), received_at=NOON + index * SECOND)
        for index, media_id in enumerate(media_ids)
    ]


def test_spooled_notifications_are_moved_in_order_and_in_groups(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_GROUP_SIZE", 2)
    spool.put(deliveries("a", "b"))
    spool.put(deliveries("c"))
    moved: list[list[Delivery]] = []

    counts = [spool.move_oldest(moved.append) for _ in range(3)]

    assert counts == [2, 1, 0]
    assert [[moved_delivery.media_id for moved_delivery in group] for group in moved] == [["a", "b"], ["c"]]
    assert moved == [deliveries("a", "b"), deliveries("c")]


def test_the_spool_reports_the_number_and_the_oldest_time(spool: Spool) -> None:
    before = spool.waiting()
    spool.put(deliveries("a", "b"))

    assert (before, spool.waiting()) == (Spooled(0, None), Spooled(2, NOON))


def test_notifications_that_could_not_be_moved_stay(spool: Spool) -> None:
    spool.put(deliveries("a"))

    def refuse(_: Sequence[Delivery]) -> None:
        raise StoreUnavailableError("gone")

    with pytest.raises(StoreUnavailableError):
        spool.move_oldest(refuse)

    assert spool.waiting().count == 1


def test_a_process_that_dies_after_the_commit_stores_nothing_twice(spool: Spool, store: Store) -> None:
    spool.put(deliveries("a", "b"))

    def move_and_die(group: Sequence[Delivery]) -> None:
        receive(store, group, now=NOON)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spool.move_oldest(move_and_die)
    spool.move_oldest(lambda group: receive(store, group, now=NOON))

    with store.reading() as connection:
        stored = list(connection.execute(select(notification.c.media_id).order_by(notification.c.id)).scalars())
        request_count = connection.execute(text("SELECT count(*) FROM vod_sync_request")).scalar_one()
    assert (sorted(stored), request_count) == (["a", "b"], 2)
    assert spool.waiting().count == 0


def test_a_disk_that_is_nearly_full_is_reported(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.put(deliveries("a"))
    spool.check()
    monkeypatch.setattr(spool_module, "MIN_FREE_SPACE", 2**62)

    with pytest.raises(StoreUnavailableError, match="MB are free"):
        spool.check()


def test_the_error_of_a_spool_that_cannot_be_opened_has_its_path(tmp_path: Path) -> None:
    (tmp_path / "spool.db").mkdir()

    with pytest.raises(StoreUnavailableError, match=r"the spool .*spool\.db"):
        Spool(tmp_path / "spool.db").put(deliveries("a"))
