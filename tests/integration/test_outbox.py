"""Which changes are recorded for the change feed, on each of the three databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from tests.builders import NOON, SECOND, announced, clip, element, typed
from worker.core.media import Media, VideoInfo
from worker.store import Store
from worker.store.catalogue.assets import FORBIDDEN, MISSING, AssetState, Catalogue
from worker.store.dialects import clock
from worker.store.outbox import Change, Outbox


class CatalogueWriter:
    """Writes to the catalogue, one second after the other, and reads the recorded changes."""

    def __init__(self, store: Store, *, announce: bool = True) -> None:
        self.store = store
        self._announce = announce
        self._now = NOON

    def save(self, *medias: Media) -> None:
        self._work(lambda catalogue, at: catalogue.save("default", medias, observed_at=at))

    def mark(self, *media_ids: str, state: AssetState = MISSING, only_new: bool = False) -> None:
        self._work(lambda catalogue, at: catalogue.mark("default", media_ids, state, observed_at=at, only_new=only_new))

    def delete(self, *media_ids: str) -> None:
        self._work(lambda catalogue, at: catalogue.mark_deleted("default", dict.fromkeys(media_ids, NOON), observed_at=at))

    def add(self, info: VideoInfo) -> None:
        self._work(lambda catalogue, at: catalogue.save_video_infos("default", [info], observed_at=at))

    def new_changes(self) -> list[tuple[str, str, set[str]]]:
        """Return id, kind and fields of each change since the last call."""

        def take(connection: Connection) -> list[Change]:
            changes = Outbox(connection).oldest(100)
            Outbox(connection).delete([change.id for change in changes])
            return changes

        return [(change.media_id, change.change, set(change.fields)) for change in self.store.transact(take)]

    def _work(self, write: Callable[[Catalogue, datetime], object]) -> None:
        self._now += SECOND
        self.store.transact(lambda connection: write(Catalogue(connection, announce=self._announce), self._now))


@pytest.fixture
def writer(store: Store) -> CatalogueWriter:
    return CatalogueWriter(store)


def listen(store: Store) -> list[str]:
    """Return a list to which every statement is appended from now on, except those that read the clock every few seconds."""
    statements: list[str] = []
    reads_clock = clock(store.engine.dialect.name).name

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN") and reads_clock not in statement:
            statements.append(statement)

    event.listen(store.engine, "before_cursor_execute", record)
    return statements


PARTS = {"mezzanine", "audio_streams", "video_streams", "play_infos"}


def test_a_new_asset_is_announced_with_the_fields_that_it_has(writer: CatalogueWriter) -> None:
    writer.save(clip("a"), typed(announced("b")))

    assert writer.new_changes() == [
        ("a", "created", {"title", "status", "tags", "state"} | PARTS),
        ("b", "created", {"title", "status", "state"}),
    ]


def test_a_change_has_source_asset_fields_and_time(writer: CatalogueWriter) -> None:
    writer.save(clip("a", Title="Old"))
    writer.new_changes()

    writer.save(clip("a", Title="New"))

    with writer.store.reading() as connection:
        (change,) = Outbox(connection).oldest(10)
        waiting = Outbox(connection).pending()
    assert (change.source, change.media_id, change.change, change.fields) == ("default", "a", "updated", ["title"])
    assert change.changed_at == NOON + 2 * SECOND
    assert (waiting.count, waiting.since) == (1, NOON + 2 * SECOND)


def test_an_unchanged_or_older_answer_is_not_a_change(writer: CatalogueWriter) -> None:
    writer.save(clip("a", CoverURL="http://x.example/c.jpg?auth_key=1-0-0-aa"))
    writer.new_changes()

    writer.save(clip("a", CoverURL="http://x.example/c.jpg?auth_key=2-0-0-bb"))
    writer.store.transact(
        lambda connection: Catalogue(connection, announce=True).save("default", [clip("a", Title="Old")], observed_at=NOON)
    )

    assert writer.new_changes() == []


def test_a_change_names_only_the_parts_that_changed(writer: CatalogueWriter) -> None:
    writer.save(clip("a"))
    writer.new_changes()
    other = element("a")
    other["PlayInfoList"].append({"JobId": "second", "Definition": "LD"})
    other["MezzanineInfo"]["VideoStreamList"][0]["Fps"] = "25"

    writer.save(typed(other))
    other["MezzanineInfo"]["Size"] = 1
    writer.save(typed(other))
    other["MezzanineInfo"]["AudioStreamList"] = []
    writer.save(typed(other))

    assert writer.new_changes() == [
        ("a", "updated", {"play_infos", "video_streams"}),
        ("a", "updated", {"mezzanine"}),
        ("a", "updated", {"audio_streams"}),
    ]


def test_a_change_of_a_field_without_a_column_names_raw(writer: CatalogueWriter) -> None:
    writer.save(clip("a"))
    writer.new_changes()

    writer.save(clip("a", BrandNew="field of VOD"))

    assert writer.new_changes() == [("a", "updated", {"raw"})]


def test_an_answer_without_analysis_changes_no_part_and_its_repetition_changes_nothing(writer: CatalogueWriter) -> None:
    writer.save(clip("a", Tags=""))
    writer.new_changes()

    writer.save(typed(announced("a", Title="Renamed")))
    writer.save(typed(announced("a", Title="Renamed")))
    writer.save(clip("a", Tags="", Title="Renamed"))

    assert writer.new_changes() == [("a", "updated", {"title", "status"}), ("a", "updated", {"status"})]


def test_an_asset_is_announced_as_created_once_vod_shows_it(writer: CatalogueWriter) -> None:
    writer.mark("a", "b", only_new=True)
    writer.mark("b", state=FORBIDDEN)
    writer.delete("b")
    before = writer.new_changes()

    writer.save(clip("a"), typed(announced("b")))

    assert before == []
    assert [(media_id, kind) for media_id, kind, _ in writer.new_changes()] == [("a", "created"), ("b", "created")]


def test_an_asset_that_disappears_and_returns_is_updated(writer: CatalogueWriter) -> None:
    writer.save(clip("a"))
    writer.new_changes()

    writer.mark("a", state=MISSING)
    writer.mark("a", state=MISSING)
    writer.mark("a", state=FORBIDDEN)
    writer.save(clip("a", Title="Back"))

    assert writer.new_changes() == [
        ("a", "updated", {"state"}),
        ("a", "updated", {"state"}),
        ("a", "updated", {"state", "title"}),
    ]


def test_a_deletion_is_announced_once_and_the_return_of_the_asset_is_an_update(writer: CatalogueWriter) -> None:
    writer.save(clip("a"))
    writer.new_changes()

    writer.delete("a")
    writer.delete("a")
    writer.save(clip("a"))

    assert writer.new_changes() == [("a", "deleted", {"state", "deleted_at"}), ("a", "updated", {"state", "deleted_at"})]


def test_a_missing_asset_that_returns_is_not_announced_as_created_again(writer: CatalogueWriter) -> None:
    writer.save(clip("a"))
    writer.save(typed(announced("a")))
    writer.mark("a", state=MISSING)
    writer.new_changes()

    writer.mark("a", state=FORBIDDEN)
    writer.save(clip("a"))

    assert [kind for _, kind, _ in writer.new_changes()] == ["updated", "updated"]


def test_an_answer_of_get_video_info_names_only_the_fields_that_it_changes(writer: CatalogueWriter) -> None:
    writer.save(clip("a"))
    writer.new_changes()

    writer.add(VideoInfo(media_id="a", audit_status="Normal", region_id="cn-shanghai", raw={}))
    writer.add(VideoInfo(media_id="a", audit_status="Normal", region_id="cn-shanghai", raw={}))
    writer.add(VideoInfo(media_id="a", audit_status="Blocked", region_id="cn-shanghai", raw={}))

    assert writer.new_changes() == [("a", "updated", {"audit_status", "region_id"}), ("a", "updated", {"audit_status"})]


def test_a_change_that_is_rolled_back_is_not_recorded(writer: CatalogueWriter) -> None:
    def save(connection: Connection) -> None:
        Catalogue(connection, announce=True).save("default", [clip("a")], observed_at=NOON)
        connection.rollback()

    writer.store.transact(save)

    assert writer.new_changes() == []


def test_without_announcements_no_change_is_recorded_and_no_statement_is_added(store: Store) -> None:
    writer = CatalogueWriter(store, announce=False)
    statements = listen(store)

    writer.save(clip("a"), clip("b"))
    new = len(statements)
    writer.save(clip("a"), clip("b"))
    unchanged = len(statements) - new
    writer.save(clip("a", Title="New"))
    changed = len(statements) - new - unchanged
    writer.mark("a")
    writer.delete("a")

    assert not [statement for statement in statements if "vod_change" in statement]
    assert writer.new_changes() == []
    # A SELECT, vod_media, and five tables of parts, which are emptied first if they had rows.
    assert (new, unchanged, changed) == (2 + 5, 2, 2 + 5 + 5)


def test_with_announcements_an_unchanged_answer_costs_no_more_statements(writer: CatalogueWriter) -> None:
    writer.save(clip("a"))
    statements = listen(writer.store)

    writer.save(clip("a"))

    assert len(statements) == 2


def test_changes_of_one_asset_are_recorded_in_the_order_of_their_commits(store: Store) -> None:
    def work(number: int) -> None:
        for step in range(8):
            at = NOON + timedelta(seconds=step * 4 + number)
            medias = [clip(media_id, Title=f"at {at}") for media_id in "abc"]
            store.transact(lambda connection: Catalogue(connection, announce=True).save("default", medias, observed_at=at))  # noqa: B023, runs at once

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    with store.reading() as connection:
        changes = Outbox(connection).oldest(1000)
    for media_id in "abc":
        of_one = [change for change in changes if change.media_id == media_id]
        times = [change.changed_at for change in of_one]
        assert times == sorted(set(times))
        assert [change.change for change in of_one] == ["created"] + ["updated"] * (len(of_one) - 1)
    assert max(change.changed_at for change in changes) == NOON + timedelta(seconds=31)


def test_the_id_of_a_change_is_never_used_twice(writer: CatalogueWriter) -> None:
    def ids() -> list[int]:
        with writer.store.reading() as connection:
            return [change.id for change in Outbox(connection).oldest(10)]

    writer.save(clip("a"))
    first = ids()
    writer.new_changes()
    writer.save(clip("b"))

    assert ids()[0] > first[0]


def test_only_old_changes_are_deleted(writer: CatalogueWriter) -> None:
    for number in range(5):
        writer.save(clip(f"m{number}"))

    def delete_older(before: datetime, limit: int = 100) -> int:
        return writer.store.transact(lambda connection: Outbox(connection).delete_older(before=before, limit=limit))

    counts = [delete_older(NOON + 3 * SECOND, limit=1), delete_older(NOON + 3 * SECOND), delete_older(NOON + 3 * SECOND)]

    assert counts == [1, 1, 0]
    assert [media_id for media_id, _, _ in writer.new_changes()] == ["m2", "m3", "m4"]
