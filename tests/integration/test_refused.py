"""A notification that the database refuses is set aside with its reason, on each of the three databases. The others are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import DataError

from tests.builders import NOON, SECOND, body
from worker.core import events
from worker.core.errors import RowRefusedError, StoreUnavailableError
from worker.store import Store
from worker.store.inbox.notifications import Delivery
from worker.store.inbox.sync_requests import SyncRequests
from worker.store.refused import RefusedDeliveries, RefusedFilter
from worker.store.spool import Spool
from worker.store.tables import notification, sync_request
from worker.store.write_check import check_write
from worker.sync.receive import NotificationWriter, delivery, receive, retry_refused

#: Part of a body that each of the three databases of these tests refuses.
REFUSED = "\N{CLAPPER BOARD}"


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[RefusedDeliveries]:
    opened = RefusedDeliveries(tmp_path / "spool.db")
    yield opened
    opened.close()


@pytest.fixture
def writer(store: Store, refused: RefusedDeliveries) -> NotificationWriter:
    return NotificationWriter(store, refused, now=lambda: NOON)


@pytest.fixture
def refusing(store: Store) -> Iterator[Callable[[], None]]:
    """Make the database refuse REFUSED until the returned function is called."""

    def refuse(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if REFUSED in str(parameters):
            raise DataError(statement, {}, ValueError("no such character"))

    event.listen(store.engine, "before_cursor_execute", refuse)
    is_refusing = True

    def accept() -> None:
        nonlocal is_refusing
        if is_refusing:
            event.remove(store.engine, "before_cursor_execute", refuse)
        is_refusing = False

    yield accept
    accept()


def arrived(media_id: str, **fields: Any) -> Delivery:
    return delivery("default", events.parse(body(media_id, **fields)), received_at=NOON)


def stored(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(connection.execute(select(notification.c.media_id)).scalars())


def requested(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(connection.execute(select(sync_request.c.media_id)).scalars())


@pytest.mark.usefixtures("refusing")
def test_one_refused_notification_of_a_group_is_set_aside_and_its_asset_is_requested(
    store: Store, refused: RefusedDeliveries, writer: NotificationWriter
) -> None:
    group = [arrived(media_id) for media_id in "abcd"]
    group[2] = arrived("c", Note=REFUSED)

    new = writer.write(group)

    assert new == 3
    assert stored(store) == ["a", "b", "d"]
    assert requested(store) == ["a", "b", "c", "d"]
    (item,) = refused.find(RefusedFilter(), limit=10)
    assert item.delivery == group[2]
    assert item.reason == "the database refuses a row: ValueError: no such character"


@pytest.mark.parametrize("size", [1, 70_000])
def test_what_the_driver_cannot_encode_is_refused(store: Store, size: int) -> None:
    text = "x" * size + "\ud800"
    broken = Delivery("default", "key", None, "a", None, None, text, NOON, ("a",))

    with pytest.raises(RowRefusedError):
        receive(store, [broken], now=NOON)


def test_a_text_that_is_too_long_is_refused(store: Store, refused: RefusedDeliveries, writer: NotificationWriter) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite stores texts of any length in any column")
    long = Delivery("default", "key", "T" * 200, "a", None, None, "{}", NOON, ("a",))

    writer.write([arrived("b"), long])

    assert stored(store) == ["b"]
    (item,) = refused.find(RefusedFilter(), limit=10)
    assert item.reason.startswith("the database refuses a row: ")
    assert "too long" in item.reason


@pytest.mark.usefixtures("refusing")
def test_a_refused_notification_in_the_middle_of_the_spool_is_moved_out(
    store: Store, refused: RefusedDeliveries, writer: NotificationWriter, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.put([arrived("a"), arrived("b", Note=REFUSED), arrived("c")])

    moved = spool.move_oldest(writer.write)

    assert (moved, spool.waiting().count, refused.summary().count) == (3, 0, 1)
    assert stored(store) == ["a", "c"]
    spool.close()


@pytest.mark.usefixtures("refusing")
def test_a_notification_that_is_refused_repeatedly_is_kept_once(refused: RefusedDeliveries, writer: NotificationWriter) -> None:
    for _ in range(3):
        writer.write([arrived("a", Note=REFUSED)])

    (item,) = refused.find(RefusedFilter(), limit=10)
    assert item.tries == 3


@pytest.mark.usefixtures("refusing")
def test_a_notification_that_cannot_be_set_aside_is_not_accepted(
    store: Store, refused: RefusedDeliveries, writer: NotificationWriter
) -> None:
    refused.path.mkdir()

    with pytest.raises(StoreUnavailableError, match=r"the spool .* cannot be used"):
        writer.write([arrived("a", Note=REFUSED)])


def test_a_retry_stores_what_the_database_takes_now(
    store: Store, refused: RefusedDeliveries, writer: NotificationWriter, refusing: Callable[[], None]
) -> None:
    writer.write([arrived("a", Note=REFUSED), arrived("b", Note=REFUSED)])
    ids = refused.ids(RefusedFilter())

    while_refusing = retry_refused(store, refused, ids, now=NOON + SECOND)
    refusing()
    afterwards = retry_refused(store, refused, ids, now=NOON + SECOND)

    assert while_refusing == (0, ["the database refuses a row: ValueError: no such character"] * 2)
    assert afterwards == (2, [])
    assert stored(store) == ["a", "b"]
    assert refused.summary().count == 0


def test_a_database_that_refuses_every_row_is_an_outage(
    store: Store, refused: RefusedDeliveries, writer: NotificationWriter
) -> None:
    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT"):
            raise DataError(statement, {}, ValueError("date out of range"))

    event.listen(store.engine, "before_cursor_execute", refuse)
    try:
        with pytest.raises(StoreUnavailableError, match="date out of range; it refuses every row") as raised:
            writer.write([arrived("a"), arrived("b")])
    finally:
        event.remove(store.engine, "before_cursor_execute", refuse)

    assert not isinstance(raised.value, RowRefusedError)
    assert refused.summary().count == 0


def test_filters_match_the_source_the_event_type_and_the_text_of_the_reason(refused: RefusedDeliveries) -> None:
    other = delivery("other", events.parse(body("a")), received_at=NOON)
    refused.put([(arrived("a"), "100% too long"), (arrived("b"), "no such character"), (other, "too long")], now=NOON)

    def ids(**fields: Any) -> list[int]:
        return refused.ids(RefusedFilter(**fields))

    assert ids() == [1, 2, 3]
    assert ids(source="default") == [1, 2]
    assert ids(text="0% t") == [1]
    assert ids(text="_") == []
    assert ids(text="VideoAnalysisComplete") == [1, 2, 3]
    assert ids(text="VideoAnalysis") == []
    assert ids(ids=[3, 9]) == [3]
    assert ids(ids=[]) == []
    assert refused.drop(RefusedFilter(source="default", text="too long")) == 1
    assert ids() == [2, 3]


def test_without_refused_notifications_no_file_is_created(refused: RefusedDeliveries) -> None:
    counts = refused.summary().count, refused.count(RefusedFilter()), refused.drop(RefusedFilter())

    assert counts == (0, 0, 0)
    assert (refused.ids(RefusedFilter()), refused.find(RefusedFilter(), limit=1)) == ([], [])
    assert not refused.path.exists()


def test_the_write_check_leaves_no_trace(store: Store) -> None:
    check_write(store, now=NOON)

    assert (stored(store), requested(store)) == ([], [])


def test_the_write_check_notices_a_disk_without_space(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.engine.dialect.name != "sqlite":
        pytest.skip("a server reports its own disk")
    monkeypatch.setattr("worker.store.write_check.MIN_FREE_SPACE", 2**62)

    with pytest.raises(StoreUnavailableError, match="KB are free on the disk of the database"):
        check_write(store, now=NOON)


def test_a_file_that_sqlite_cannot_extend_is_noticed_by_the_write_check(store: Store) -> None:
    if store.engine.dialect.name != "sqlite":
        pytest.skip("a server reports its own disk")
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = 1")
        connection.commit()
    try:
        with pytest.raises(StoreUnavailableError):
            check_write(store, now=NOON)
    finally:
        store.engine.dispose()


def test_assets_of_refused_notifications_that_cannot_be_requested_yet_are_not_given_up(
    store: Store, refused: RefusedDeliveries, writer: NotificationWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(SyncRequests, "request", fail)

    with pytest.raises(StoreUnavailableError, match="away"):
        writer.set_aside([(arrived("a"), "too long")])

    # It is durable, and the sender or the spool tries again.
    assert refused.summary().count == 1


def test_a_group_of_refused_notifications_is_bounded_in_commits(
    store: Store, refused: RefusedDeliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []

    def refuse(_store: Store, part: Sequence[Delivery], *, now: object) -> int:
        commits.append(len(part))
        raise RowRefusedError("no")

    monkeypatch.setattr("worker.sync.receive.receive", refuse)

    NotificationWriter(store, refused, now=lambda: NOON).write([arrived(f"m{number}") for number in range(16)])

    assert len(commits) == 31
    assert refused.summary().count == 16
