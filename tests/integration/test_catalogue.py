"""Save and mark assets, on each of the three databases."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Table, select

from tests.builders import NOON, SECOND, announced, clip, element, typed
from worker.core.media import Media
from worker.store import Store, tables
from worker.store.catalogue import media_view
from worker.store.catalogue.assets import FORBIDDEN, MISSING, AssetState, Catalogue, Saved


def save(store: Store, *medias: Media, at: datetime = NOON) -> Saved:
    return store.transact(lambda connection: Catalogue(connection).save("default", medias, observed_at=at))


def mark(store: Store, *media_ids: str, state: AssetState = MISSING, at: datetime = NOON) -> list[str]:
    return store.transact(lambda connection: Catalogue(connection).mark("default", media_ids, state, observed_at=at))


def row(store: Store, media_id: str, table: Table = tables.media) -> Any:
    with store.reading() as connection:
        return connection.execute(select(table).where(table.c.media_id == media_id)).one_or_none()


def record(store: Store, media_id: str) -> dict[str, Any]:
    with store.reading() as connection:
        stored = media_view.find(connection, "default", media_id)
    assert stored is not None
    return stored


def test_a_new_asset_is_stored_in_all_its_tables(store: Store) -> None:
    saved = save(store, clip("a", CateId=12, CreationTime="2025-11-24T15:59:00Z"))

    details = record(store, "a")
    assert saved.new == ["a"]
    assert (details["title"], details["tags"], details["cate_id"], details["state"]) == ("Demo", ["a", "b"], 12, "ok")
    assert (details["first_seen_at"], details["observed_at"], details["changed_at"]) == (NOON, NOON, NOON)
    assert (details["mezzanine"]["size"], details["mezzanine"]["duration"]) == (5_000_000_000, Decimal("61.027"))
    assert details["video_streams"][0]["fps"] == Decimal("29.970030")
    assert (details["audio_streams"][0]["stream_index"], details["audio_streams"][0]["sample_rate"]) == ("1", 44100)
    assert details["play_infos"][0]["encrypt"] is True
    assert row(store, "a", tables.raw).answer == clip("a", CateId=12, CreationTime="2025-11-24T15:59:00Z").raw


def test_an_equal_answer_changes_only_the_time_of_observation(store: Store) -> None:
    save(store, clip("a", CoverURL="http://x.example/c.jpg?auth_key=1-0-0-aa"))

    saved = save(store, clip("a", CoverURL="http://x.example/c.jpg?auth_key=2-0-0-bb"), at=NOON + SECOND)

    stored = row(store, "a")
    assert saved.unchanged == ["a"]
    assert (stored.observed_at, stored.changed_at, stored.cover_url) == (NOON + SECOND, NOON, "http://x.example/c.jpg")


def test_an_older_answer_changes_nothing(store: Store) -> None:
    save(store, clip("a", Title="new"), at=NOON + SECOND)

    saved = save(store, clip("a", Title="old"))
    mark(store, "a", at=NOON)

    stored = row(store, "a")
    assert saved.older == ["a"]
    assert (stored.title, stored.state, stored.observed_at) == ("new", "ok", NOON + SECOND)


def test_a_changed_answer_replaces_the_streams_as_a_set(store: Store) -> None:
    save(store, clip("a"))
    fewer = element("a", Title="Other")
    fewer["PlayInfoList"] = [{"JobId": "other"}]
    fewer["MezzanineInfo"]["AudioStreamList"] = []

    saved = save(store, typed(fewer), at=NOON + SECOND)

    details = record(store, "a")
    assert saved.changed == ["a"]
    assert (details["title"], details["changed_at"], details["first_seen_at"]) == ("Other", NOON + SECOND, NOON)
    assert [info["job_id"] for info in details["play_infos"]] == ["other"]
    assert details["audio_streams"] == []


def test_an_answer_without_analysis_erases_no_analysed_file(store: Store) -> None:
    save(store, clip("a"))

    save(store, typed(announced("a", Title="Renamed")), at=NOON + SECOND)

    details = record(store, "a")
    assert (details["title"], details["status"]) == ("Renamed", "Uploading")
    assert details["mezzanine"]["duration"] == Decimal("61.027")
    assert len(details["video_streams"]) == 1


@pytest.mark.parametrize("media_info", [None, {}, "", {"MediaId": "a"}, "text", ["text"]])
def test_an_answer_without_media_info_keeps_the_stored_one(store: Store, media_info: Any) -> None:
    save(store, clip("a", CateId=12), clip("b"))
    without = element("a") | {"MediaInfo": media_info}
    without["MezzanineInfo"]["Size"] = 7

    save(store, typed(without), clip("b", Title="Other"), at=NOON + SECOND)
    details = record(store, "a")
    saved = save(store, clip("a", CateId=12), at=NOON + 2 * SECOND)

    assert (details["title"], details["tags"], details["cate_id"], details["mezzanine"]["size"]) == ("Demo", ["a", "b"], 12, 7)
    assert record(store, "b")["title"] == "Other"
    assert saved.changed == ["a"]


def test_an_analysed_answer_after_one_without_analysis_is_stored_whole(store: Store) -> None:
    save(store, clip("a"))
    save(store, typed(announced("a", Title="Renamed")), at=NOON + SECOND)

    saved = save(store, clip("a"), at=NOON + 2 * SECOND)

    assert saved.changed == ["a"]
    assert (record(store, "a")["title"], record(store, "a")["status"]) == ("Demo", "Normal")


def test_a_deleted_source_file_is_a_change_and_not_a_missing_analysis(store: Store) -> None:
    save(store, clip("a"))
    without_file = element("a")
    without_file["MezzanineInfo"] = {"MediaId": "a", "Status": "Deleted"}

    save(store, typed(without_file), at=NOON + SECOND)

    details = record(store, "a")
    assert (details["mezzanine"]["status"], details["mezzanine"]["size"], details["video_streams"]) == ("Deleted", None, [])


def test_an_unknown_asset_is_missing_until_it_is_saved(store: Store) -> None:
    marked = mark(store, "a")
    again = mark(store, "a", at=NOON + SECOND)

    save(store, clip("a"), at=NOON + 2 * SECOND)

    assert (marked, again) == (["a"], [])
    assert (row(store, "a").state, row(store, "a").first_seen_at) == ("ok", NOON)


def test_a_forbidden_asset_keeps_its_data(store: Store) -> None:
    save(store, clip("a"))

    mark(store, "a", state=FORBIDDEN, at=NOON + SECOND)

    details = record(store, "a")
    assert (details["state"], details["changed_at"], details["title"]) == ("forbidden", NOON + SECOND, "Demo")
    assert len(details["play_infos"]) == 1


def test_the_same_answer_for_a_missing_asset_is_a_change(store: Store) -> None:
    save(store, clip("a"))
    mark(store, "a", at=NOON + SECOND)

    saved = save(store, clip("a"), at=NOON + 2 * SECOND)

    assert saved.changed == ["a"]
    assert row(store, "a").state == "ok"


def test_unreadable_fields_are_listed_and_the_rest_is_stored(store: Store) -> None:
    odd = element("a", CateId="not a number")

    save(store, typed(odd))

    details = record(store, "a")
    assert (details["cate_id"], details["title"]) == (None, "Demo")
    assert details["unreadable"] == ["MediaInfo.CateId"]


@pytest.mark.parametrize(
    "title", ["👩‍👩‍👧‍👦 猫 ñ", 'it\'s "quoted" \\ % _ ; --', "x" * 70_000, "\u202eright to left", "\u0000nul"], ids=range(5)
)
def test_titles_of_any_alphabet_and_length_are_stored(store: Store, title: str) -> None:
    save(store, clip("a", Title=title))

    assert row(store, "a").title == clip("a", Title=title).title


@pytest.mark.parametrize("seconds", ["0.000001", "999999999.123456", "-0.046440", "86400.5"])
def test_decimals_are_read_back_exactly(store: Store, seconds: str) -> None:
    exact = element("a")
    exact["MezzanineInfo"]["Duration"] = seconds

    save(store, typed(exact))

    assert row(store, "a", tables.mezzanine).duration == Decimal(seconds)


def test_ids_that_differ_only_in_case_are_two_assets(store: Store) -> None:
    save(store, clip("abc"), clip("ABC", Title="Other"))

    assert (row(store, "abc").title, row(store, "ABC").title) == ("Demo", "Other")


def test_concurrent_saves_of_the_same_assets_keep_the_newest_answer(store: Store) -> None:
    ids = [f"m{number}" for number in range(20)]

    def work(number: int) -> None:
        for step in range(5):
            age = (step * 4 + number) * SECOND
            save(store, *(clip(media_id, Title=f"at {age.total_seconds():.0f}") for media_id in ids), at=NOON + age)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    newest = NOON + timedelta(seconds=19)
    assert {(row(store, media_id).title, row(store, media_id).observed_at) for media_id in ids} == {("at 19", newest)}
    with store.reading() as connection:
        streams = connection.execute(select(tables.video_stream.c.media_id)).all()
    assert len(streams) == 20
