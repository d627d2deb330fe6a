"""States and source files that an answer must not change, on each of the three databases."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Table, select

from tests.builders import NOON, SECOND, announced, clip, typed
from worker.core.media import Media, VideoInfo
from worker.store import Store
from worker.store.catalogue.assets import DELETED, FORBIDDEN, MISSING, AssetState, Catalogue, Saved
from worker.store.tables import media, mezzanine, raw

TWO_WRITERS = pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)


def save(store: Store, asset: Media, *, at: datetime = NOON) -> Saved:
    return store.transact(lambda connection: Catalogue(connection).save("default", [asset], observed_at=at))


def mark(store: Store, state: AssetState, *, at: datetime) -> list[str]:
    return store.transact(lambda connection: Catalogue(connection).mark("default", ["a"], state, observed_at=at))


def delete(store: Store, *, deleted_at: datetime, at: datetime) -> None:
    store.transact(lambda connection: Catalogue(connection).mark_deleted("default", {"a": deleted_at}, observed_at=at))


def row(store: Store, table: Table = media) -> Any:
    with store.reading() as connection:
        return connection.execute(select(table).where(table.c.media_id == "a")).one()


def unanalysed(**source_file: Any) -> Media:
    """An asset whose source file VOD has, and has not analysed yet."""
    return typed(announced("a") | {"MezzanineInfo": {"MediaId": "a", "Status": "Normal", **source_file}})


def test_a_deleted_asset_that_vod_does_not_know_stays_deleted(store: Store) -> None:
    save(store, clip("a"))
    delete(store, deleted_at=NOON + SECOND, at=NOON + 2 * SECOND)

    marked = mark(store, MISSING, at=NOON + 3 * SECOND)

    stored = row(store)
    assert marked == []
    assert (stored.state, stored.deleted_at) == (DELETED, NOON + SECOND)
    assert (stored.changed_at, stored.observed_at) == (NOON + 2 * SECOND, NOON + 3 * SECOND)


def test_a_missing_asset_that_was_deleted_becomes_deleted(store: Store) -> None:
    mark(store, MISSING, at=NOON)

    delete(store, deleted_at=NOON + SECOND, at=NOON + 2 * SECOND)

    assert (row(store).state, row(store).deleted_at) == (DELETED, NOON + SECOND)


def test_an_asset_that_is_forbidden_after_its_deletion_has_no_time_of_deletion(store: Store) -> None:
    save(store, clip("a"))
    delete(store, deleted_at=NOON + SECOND, at=NOON + 2 * SECOND)

    marked = mark(store, FORBIDDEN, at=NOON + 3 * SECOND)

    assert marked == ["a"]
    assert (row(store).state, row(store).deleted_at) == (FORBIDDEN, None)


def test_a_source_file_that_was_never_analysed_is_replaced_before_the_analysis(store: Store) -> None:
    save(store, unanalysed(Size=1, FileName="first.mp4"))

    save(store, unanalysed(Size=2), at=NOON + SECOND)

    stored = row(store, mezzanine)
    assert (stored.size, stored.file_name) == (2, None)
    assert row(store, raw).answer["MezzanineInfo"]["Size"] == 2


def test_an_empty_answer_about_a_missing_asset_keeps_its_unanalysed_source_file(store: Store) -> None:
    first = unanalysed(Size=1)
    save(store, first)
    mark(store, MISSING, at=NOON + SECOND)

    saved = save(store, typed({"MediaId": "a"}), at=NOON + 2 * SECOND)

    assert saved.changed == ["a"]
    assert (row(store).state, row(store).title) == ("ok", "Demo")
    assert row(store, mezzanine).size == 1
    assert row(store, raw).answer == first.raw


@TWO_WRITERS
def test_an_asset_is_locked_while_an_added_answer_is_compared(store: Store) -> None:
    """Without the lock, an equal answer would be dropped although another writer is about to store a different one."""
    save(store, clip("a"))
    skip_locked = select(media.c.media_id).where(media.c.media_id == "a").with_for_update(skip_locked=True)
    equal = VideoInfo(media_id="a", raw={})

    with store.engine.begin() as first, store.engine.begin() as second:
        Catalogue(first).save_video_infos("default", [equal], observed_at=NOON + SECOND)
        unlocked = second.execute(skip_locked).scalars().all()

    assert unlocked == []


def test_an_asset_is_not_locked_after_an_added_answer_is_committed(store: Store) -> None:
    save(store, clip("a"))
    blocked = VideoInfo(media_id="a", audit_status="Blocked", raw={})

    store.transact(lambda connection: Catalogue(connection).save_video_infos("default", [blocked], observed_at=NOON + SECOND))

    stored = row(store)
    assert (stored.audit_status, stored.changed_at, stored.observed_at) == ("Blocked", NOON + SECOND, NOON)
