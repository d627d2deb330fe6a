"""Two sources that have the same media ids, notifications and operations, on each of the three databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, announced, body, clip, element, typed
from worker.core import events
from worker.core.media import Media, VideoInfo
from worker.core.wait import Wait
from worker.store import Store, tables
from worker.store.catalogue.assets import DELETED, FORBIDDEN, MISSING, OK, Catalogue
from worker.store.outbox import Outbox
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.sync.receive import delivery, receive

#: The sources, in both orders: a row of the other source may come first or last.
BOTH_ORDERS = pytest.mark.parametrize(("source", "other"), [("alpha", "beta"), ("beta", "alpha")])

MEDIA_TABLES = (
    tables.media,
    tables.mezzanine,
    tables.audio_stream,
    tables.video_stream,
    tables.play_info,
    tables.raw,
)


def rows_of(store: Store, source: str) -> dict[str, list[Any]]:
    """Return every row of a source in the catalogue, by table."""
    with store.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).where(table.c.source == source))]
            for table in MEDIA_TABLES
        }


def save(store: Store, source: str, *medias: Media, at: datetime = NOON, announce: bool = False) -> None:
    store.transact(lambda connection: Catalogue(connection, announce=announce).save(source, medias, observed_at=at))


# Notifications


def deliver(store: Store, *sources: str) -> int:
    """Deliver one and the same notification to each of the sources, in one commit. Return how many were new."""
    notification = events.parse(body("a"))
    return receive(store, [delivery(source, notification, received_at=NOON) for source in sources], now=NOON)


def deliveries(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        return dict(map(tuple, connection.execute(select(tables.notification.c.source, tables.notification.c.deliveries))))


def due_sources(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(connection.execute(select(tables.sync_request.c.source)).scalars())


@BOTH_ORDERS
def test_a_notification_that_another_source_received_before_is_new(store: Store, source: str, other: str) -> None:
    deliver(store, other)

    new = deliver(store, source)

    assert new == 1
    assert deliveries(store) == {"alpha": 1, "beta": 1}
    assert due_sources(store) == ["alpha", "beta"]


@BOTH_ORDERS
def test_a_repeated_notification_is_counted_for_its_own_source_only(store: Store, source: str, other: str) -> None:
    deliver(store, source, other)

    new = deliver(store, source, source)

    assert new == 0
    assert deliveries(store) == {source: 3, other: 1}


@BOTH_ORDERS
def test_one_commit_counts_a_repeat_of_one_source_and_stores_the_first_of_another(store: Store, source: str, other: str) -> None:
    deliver(store, source)

    new = deliver(store, source, other)

    assert new == 1
    assert deliveries(store) == {source: 2, other: 1}
    assert due_sources(store) == ["alpha", "beta"]


# The catalogue


CHANGED = element("a", Title="Changed")
CHANGED["PlayInfoList"] = [{"JobId": "other"}]
CHANGED["MezzanineInfo"]["AudioStreamList"] = []
CHANGED["MezzanineInfo"]["VideoStreamList"] = [{"Index": "7", "CodecName": "hevc"}]

VIDEO_INFO = VideoInfo(media_id="a", audit_status="Blocked", region_id="cn-beijing", raw={})

LATER = NOON + SECOND


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda catalogue, source: catalogue.save(source, [typed(CHANGED)], observed_at=LATER), id="changed"),
        pytest.param(lambda catalogue, source: catalogue.save(source, [clip("a")], observed_at=LATER), id="unchanged"),
        pytest.param(lambda catalogue, source: catalogue.mark(source, ["a"], MISSING, observed_at=LATER), id="missing"),
        pytest.param(lambda catalogue, source: catalogue.mark(source, ["a"], FORBIDDEN, observed_at=LATER), id="forbidden"),
        pytest.param(lambda catalogue, source: catalogue.mark(source, ["a"], OK, observed_at=LATER), id="same state"),
        pytest.param(lambda catalogue, source: catalogue.mark_deleted(source, {"a": NOON}, observed_at=LATER), id="deleted"),
        pytest.param(
            lambda catalogue, source: catalogue.save_video_infos(source, [VIDEO_INFO], observed_at=LATER), id="video info"
        ),
    ],
)
@BOTH_ORDERS
def test_a_write_to_one_source_leaves_the_same_id_of_another(
    store: Store, source: str, other: str, write: Callable[[Catalogue, str], object]
) -> None:
    save(store, source, clip("a"))
    save(store, other, clip("a"))
    before = rows_of(store, source)
    before_other = rows_of(store, other)

    store.transact(lambda connection: write(Catalogue(connection), source))

    assert rows_of(store, source) != before
    assert rows_of(store, other) == before_other


@BOTH_ORDERS
def test_an_id_that_another_source_has_is_new(store: Store, source: str, other: str) -> None:
    save(store, other, clip("a", Title="Other"), at=LATER)

    saved = store.transact(lambda connection: Catalogue(connection).save(source, [clip("a")], observed_at=NOON))

    with store.reading() as connection:
        titles = dict(map(tuple, connection.execute(select(tables.media.c.source, tables.media.c.title))))
    assert saved.new == ["a"]
    assert titles == {source: "Demo", other: "Other"}


@BOTH_ORDERS
def test_an_id_that_is_missing_in_one_source_is_known_in_another(store: Store, source: str, other: str) -> None:
    save(store, other, clip("a"))

    marked = store.transact(lambda connection: Catalogue(connection).mark(source, ["a"], MISSING, observed_at=LATER))

    with store.reading() as connection:
        states = {name: Catalogue(connection).states(name, ["a"]) for name in (source, other)}
    assert marked == ["a"]
    assert states == {source: {"a": MISSING}, other: {"a": OK}}


@BOTH_ORDERS
def test_the_time_of_a_deletion_is_that_of_its_own_source(store: Store, source: str, other: str) -> None:
    store.transact(lambda connection: Catalogue(connection).mark_deleted(other, {"a": NOON}, observed_at=LATER))

    store.transact(lambda connection: Catalogue(connection).mark_deleted(source, {"a": LATER}, observed_at=LATER))

    with store.reading() as connection:
        rows = connection.execute(select(tables.media.c.source, tables.media.c.state, tables.media.c.deleted_at)).all()
    assert sorted(map(tuple, rows)) == sorted([(source, DELETED, LATER), (other, DELETED, NOON)])


@BOTH_ORDERS
def test_an_analysed_file_of_one_source_does_not_keep_the_answers_of_another(store: Store, source: str, other: str) -> None:
    renamed = typed(announced("a", Title="Renamed"))
    save(store, source, typed(announced("a")))
    save(store, other, clip("a"))

    save(store, source, renamed, at=LATER)

    with store.reading() as connection:
        answer = connection.execute(select(tables.raw.c.answer).where(tables.raw.c.source == source)).scalar_one()
    assert answer == renamed.raw


@BOTH_ORDERS
def test_a_change_names_the_fields_that_differ_within_its_own_source(store: Store, source: str, other: str) -> None:
    save(store, source, clip("a", Title="Before"))
    save(store, other, typed(CHANGED))

    save(store, source, clip("a", Title="Changed"), at=LATER, announce=True)

    with store.reading() as connection:
        (change,) = Outbox(connection).oldest(10)
    assert (change.source, change.fields) == (source, ["title"])


# The rate limit


def back_off(store: Store, source: str, *, operation: str = BATCH_GET_MEDIA_INFOS) -> None:
    store.transact(lambda connection: RateLimiter(connection).back_off(source, operation, 30 * SECOND, fault="Throttling.User"))


def wait_for(store: Store, source: str, *, operation: str = BATCH_GET_MEDIA_INFOS) -> timedelta:
    """Return how long a call of this operation has to wait now."""
    result = store.transact(lambda connection: RateLimiter(connection).take(source, operation, per_second=20))
    return result.duration if isinstance(result, Wait) else timedelta(0)


def faults(store: Store) -> dict[tuple[str, str], str]:
    with store.reading() as connection:
        return {(row.source, row.operation): row.fault for row in RateLimiter(connection).back_offs()}


@BOTH_ORDERS
def test_a_throttled_source_does_not_hold_back_another(store: Store, source: str, other: str) -> None:
    wait_for(store, other)

    back_off(store, source)

    assert wait_for(store, source) > 25 * SECOND
    assert wait_for(store, other) == timedelta(0)
    assert faults(store) == {(source, BATCH_GET_MEDIA_INFOS): "Throttling.User"}


@BOTH_ORDERS
def test_a_source_whose_calls_work_again_does_not_release_another(store: Store, source: str, other: str) -> None:
    back_off(store, source)
    back_off(store, other)

    store.transact(lambda connection: RateLimiter(connection).clear_error(source, BATCH_GET_MEDIA_INFOS))

    assert faults(store) == {(other, BATCH_GET_MEDIA_INFOS): "Throttling.User"}


@BOTH_ORDERS
def test_calls_of_one_source_take_no_slots_of_another(store: Store, source: str, other: str) -> None:
    wait_for(store, source)

    store.transact(lambda connection: RateLimiter(connection).take(other, BATCH_GET_MEDIA_INFOS, per_second=1, calls=20))

    assert wait_for(store, other) > 15 * SECOND
    assert wait_for(store, source) == timedelta(0)


def test_a_throttled_operation_does_not_hold_back_another_of_the_same_source(store: Store) -> None:
    wait_for(store, "alpha", operation="SearchMedia")

    back_off(store, "alpha", operation=BATCH_GET_MEDIA_INFOS)

    assert wait_for(store, "alpha", operation="SearchMedia") == timedelta(0)
    assert faults(store) == {("alpha", BATCH_GET_MEDIA_INFOS): "Throttling.User"}
