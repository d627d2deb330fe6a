"""The column `deletes` of vod_notification: migration 0010 on a filled database, and rows of a release without the column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tests.builders import NOON, SECOND, body, notify
from tests.conftest import own_database
from worker.core import events
from worker.store import Store, schema
from worker.store.inbox.history import Deletion, NotificationHistory
from worker.store.local_file import spooled
from worker.store.spool import Spool
from worker.store.tables import notification
from worker.sync.receive import receive

#: The id of each stored notification, its body, and what the migration stores for it.
STORED: dict[str, tuple[str, bool | None]] = {
    "whole": (json.dumps({"DeleteType": "all", "MediaType": "video"}), True),
    "no-kind": (json.dumps({"DeleteType": "all"}), True),
    "spaced": (json.dumps({"DeleteType ": " All ", "MediaType": " Audio"}), True),
    "streams": (json.dumps({"DeleteType": "partial", "MediaType": "video"}), False),
    "image": (json.dumps({"DeleteType": "all", "MediaType": "Image"}), False),
    "attached": (json.dumps({"DeleteType": "all", "MediaType": "attached"}), False),
    "untyped": (json.dumps({"DeleteType": 1}), False),
    # Only the parser of a release knows whether such a body is accepted.
    "not-json": ("{", None),
    "constant": ('{"DeleteType": "all", "Size": NaN}', None),
    "list": ("[]", None),
}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def previous_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with the schema before the column, filled as the release of that time filled it."""
    urls = iter([f"sqlite:///{tmp_path / 'previous.db'}"]) if request.param == "sqlite" else own_database(request.param)
    for url in urls:
        schema.upgrade(url, revision="0009")
        store = Store.open(url)
        rows = [stored(media_id, text) for media_id, (text, _) in STORED.items()]
        rows.append(stored("failed", STORED["whole"][0], status="fail"))
        rows.append(stored("upload", STORED["whole"][0], event_type="FileUploadComplete"))
        store.transact(lambda connection: connection.execute(sa.insert(notification), rows))  # noqa: B023, runs at once
        store.close()
        yield url


def stored(
    media_id: str,
    text: str,
    *,
    event_type: str = "DeleteMediaComplete",
    status: str = "success",
    received_at: datetime = NOON,
) -> dict[str, Any]:
    """A row of vod_notification as the release before the column wrote it."""
    return {
        "source": "default",
        "event_key": f"{media_id}-{event_type}-{status}",
        "event_type": event_type,
        "media_id": media_id,
        "event_time": NOON - SECOND,
        "status": status,
        "body": text,
        "received_at": received_at,
        "deliveries": 1,
    }


def decisions(store: Store) -> dict[str, bool | None]:
    with store.reading() as connection:
        return {row.media_id: row.deletes for row in connection.execute(sa.select(notification.c.media_id, notification.c.deletes))}


def deletions(store: Store, *media_ids: str) -> dict[str, Deletion]:
    with store.reading() as connection:
        return NotificationHistory(connection).deletions("default", media_ids)


def test_the_migration_decides_every_stored_deletion(previous_url: str) -> None:
    schema.upgrade(previous_url, revision="0010")

    store = Store.open(previous_url)
    expected = {media_id: decision for media_id, (_, decision) in STORED.items()}
    assert decisions(store) == expected | {"failed": None, "upload": None}
    store.close()


def test_the_migration_reads_and_writes_more_rows_than_one_statement_takes(previous_url: str) -> None:
    store = Store.open(previous_url)
    rows = [stored(f"many-{number}", STORED["whole"][0]) for number in range(1100)]
    store.transact(lambda connection: connection.execute(sa.insert(notification), rows))
    # A gap in the ids, as upserts and deleted rows leave them.
    store.transact(
        lambda connection: connection.execute(
            sa.update(notification).where(notification.c.media_id == "many-1099").values(id=notification.c.id + 25_000)
        )
    )

    schema.upgrade(previous_url, revision="0010")

    decided = decisions(store)
    assert [decided[f"many-{number}"] for number in range(1100)] == [True] * 1100
    store.close()


def test_the_previous_schema_comes_back_with_its_rows(previous_url: str) -> None:
    schema.upgrade(previous_url, revision="0010")

    schema.downgrade(previous_url, revision="0009")

    engine = Store.open(previous_url).engine
    columns = {column["name"] for column in sa.inspect(engine).get_columns("vod_notification")}
    with engine.connect() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(notification)).scalar_one()
    engine.dispose()
    assert "deletes" not in columns
    assert count == len(STORED) + 2


def test_a_recorded_notification_stores_its_decision(store: Store) -> None:
    notify(store, "gone", event="DeleteMediaComplete", DeleteType="all", MediaType="video")
    notify(store, "streams", event="DeleteMediaComplete", DeleteType="partial", MediaType="video")
    notify(store, "analysed")

    assert decisions(store) == {"gone": True, "streams": False, "analysed": False}
    assert deletions(store, "gone", "streams", "analysed") == {"gone": Deletion(at=NOON, reported_at=NOON)}


def test_rows_of_a_release_without_the_column_are_decided_from_their_bodies(store: Store) -> None:
    rows = [stored(media_id, text) for media_id, (text, _) in STORED.items()]
    rows.append(stored("whole", STORED["whole"][0], status="succeeded", received_at=NOON + SECOND))
    bodies = [row | {"body": body(row["media_id"], row["event_type"], **json.loads(row["body"])).decode()} for row in rows[:7]]
    store.transact(lambda connection: connection.execute(sa.insert(notification), bodies + rows[7:]))

    assert set(deletions(store, *STORED)) == {"whole", "no-kind", "spaced"}


def test_a_stored_decision_is_final(store: Store) -> None:
    text = body("a", "DeleteMediaComplete", DeleteType="all", MediaType="video").decode()
    rows = [stored("a", text) | {"deletes": False}, stored("b", "not parsed") | {"deletes": True}]
    store.transact(lambda connection: connection.execute(sa.insert(notification), rows))

    assert set(deletions(store, "a", "b")) == {"b"}


def test_a_spool_file_of_the_previous_release_drains_and_its_deletions_count(store: Store, tmp_path: Path) -> None:
    text = body("a", "DeleteMediaComplete", DeleteType="all", MediaType="video")
    parsed = events.parse(text)
    previous = {
        "source": "default",
        "event_key": parsed.event_key,
        "event_type": "DeleteMediaComplete",
        "media_id": "a",
        "event_time": NOON,
        "status": "success",
        "body": parsed.body,
        "received_at": NOON,
        "media_ids": ["a"],
    }
    spool = Spool(tmp_path / "spool.db")
    spool.check()
    with spool._file.writing() as connection:
        row = {"received_at": NOON.replace(tzinfo=None), "delivery": msgspec.msgpack.encode(previous)}
        connection.execute(sa.insert(spooled), [row])

    drained = spool.move_oldest(lambda deliveries: receive(store, deliveries, now=NOON))

    spool.close()
    assert drained == 1
    assert decisions(store) == {"a": None}
    assert deletions(store, "a") == {"a": Deletion(at=NOON, reported_at=NOON)}
