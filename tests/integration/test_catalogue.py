"""The catalogue on each of the three databases."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Table, select

from tests.builders import NOON, SECOND, announced, clip, element, typed
from worker.core.media import Media
from worker.store import Store, tables
from worker.store.catalogue import media_view
from worker.store.catalogue.assets import FORBIDDEN, MISSING, AssetState, Catalogue, Saved


def save(store: Store, *medias: Media, at: Any = NOON) -> Saved:
    return store.transact(lambda connection: Catalogue(connection).save("default", medias, observed_at=at))


def mark(store: Store, *media_ids: str, state: AssetState = MISSING, at: Any = NOON) -> list[str]:
    return store.transact(lambda connection: Catalogue(connection).mark("default", media_ids, state, observed_at=at))


def row(store: Store, media_id: str, table: Table = tables.media) -> Any:
    with store.reading() as connection:
        return connection.execute(select(table).where(table.c.media_id == media_id)).one_or_none()


def record(store: Store, media_id: str) -> dict[str, Any]:
    with store.reading() as connection:
        found = media_view.find(connection, "default", media_id)
    assert found is not None
    return found


def test_a_new_medium_stands_in_all_its_tables(store: Store) -> None:
    saved = save(store, clip("a", CateId=12, CreationTime="2025-11-24T15:59:00Z"))

    found = record(store, "a")
    assert saved.new == ["a"]
    assert (found["title"], found["tags"], found["cate_id"], found["state"]) == ("Demo", ["a", "b"], 12, "ok")
    assert (found["first_seen_at"], found["observed_at"], found["changed_at"]) == (NOON, NOON, NOON)
    assert (found["mezzanine"]["size"], found["mezzanine"]["duration"]) == (5_000_000_000, Decimal("61.027"))
    assert found["video_streams"][0]["fps"] == Decimal("29.970030")
    assert (found["audio_streams"][0]["stream_index"], found["audio_streams"][0]["sample_rate"]) == ("1", 44100)
    assert found["play_infos"][0]["encrypt"] is True
    assert row(store, "a", tables.raw).answer == clip("a", CateId=12, CreationTime="2025-11-24T15:59:00Z").raw


def test_an_equal_answer_moves_only_the_time_of_asking(store: Store) -> None:
    save(store, clip("a", CoverURL="http://x.example/c.jpg?auth_key=1-0-0-aa"))

    saved = save(store, clip("a", CoverURL="http://x.example/c.jpg?auth_key=2-0-0-bb"), at=NOON + SECOND)

    kept = row(store, "a")
    assert saved.unchanged == ["a"]
    assert (kept.observed_at, kept.changed_at, kept.cover_url) == (NOON + SECOND, NOON, "http://x.example/c.jpg")


def test_an_older_answer_changes_nothing(store: Store) -> None:
    save(store, clip("a", Title="new"), at=NOON + SECOND)

    saved = save(store, clip("a", Title="old"))
    mark(store, "a", at=NOON)

    kept = row(store, "a")
    assert saved.older == ["a"]
    assert (kept.title, kept.state, kept.observed_at) == ("new", "ok", NOON + SECOND)


def test_a_changed_answer_replaces_the_streams_as_a_set(store: Store) -> None:
    save(store, clip("a"))
    fewer = element("a", Title="Other")
    fewer["PlayInfoList"] = [{"JobId": "other"}]
    fewer["MezzanineInfo"]["AudioStreamList"] = []

    saved = save(store, typed(fewer), at=NOON + SECOND)

    found = record(store, "a")
    assert saved.changed == ["a"]
    assert (found["title"], found["changed_at"], found["first_seen_at"]) == ("Other", NOON + SECOND, NOON)
    assert [info["job_id"] for info in found["play_infos"]] == ["other"]
    assert found["audio_streams"] == []


def test_an_answer_without_analysis_erases_no_analysed_file(store: Store) -> None:
    save(store, clip("a"))

    save(store, typed(announced("a", Title="Renamed")), at=NOON + SECOND)

    found = record(store, "a")
    assert (found["title"], found["status"]) == ("Renamed", "Uploading")
    assert found["mezzanine"]["duration"] == Decimal("61.027")
    assert len(found["video_streams"]) == 1


@pytest.mark.parametrize("said", [None, {}, "", {"MediaId": "a"}])
def test_an_answer_without_media_info_erases_none(store: Store, said: Any) -> None:
    save(store, clip("a", CateId=12), clip("b"))
    without = element("a") | {"MediaInfo": said}
    without["MezzanineInfo"]["Size"] = 7

    save(store, typed(without), clip("b", Title="Other"), at=NOON + SECOND)
    found = record(store, "a")
    saved = save(store, clip("a", CateId=12), at=NOON + 2 * SECOND)

    assert (found["title"], found["tags"], found["cate_id"], found["mezzanine"]["size"]) == ("Demo", ["a", "b"], 12, 7)
    assert record(store, "b")["title"] == "Other"
    assert saved.changed == ["a"]


def test_the_analysed_answer_after_it_is_written_whole(store: Store) -> None:
    save(store, clip("a"))
    save(store, typed(announced("a", Title="Renamed")), at=NOON + SECOND)

    saved = save(store, clip("a"), at=NOON + 2 * SECOND)

    assert saved.changed == ["a"]
    assert (record(store, "a")["title"], record(store, "a")["status"]) == ("Demo", "Normal")


def test_a_deleted_source_file_is_news_not_a_missing_analysis(store: Store) -> None:
    save(store, clip("a"))
    gone = element("a")
    gone["MezzanineInfo"] = {"MediaId": "a", "Status": "Deleted"}

    save(store, typed(gone), at=NOON + SECOND)

    found = record(store, "a")
    assert (found["mezzanine"]["status"], found["mezzanine"]["size"], found["video_streams"]) == ("Deleted", None, [])


def test_an_unknown_medium_becomes_missing_and_comes_back(store: Store) -> None:
    moved = mark(store, "a")
    again = mark(store, "a", at=NOON + SECOND)

    save(store, clip("a"), at=NOON + 2 * SECOND)

    assert (moved, again) == (["a"], [])
    assert (row(store, "a").state, row(store, "a").first_seen_at) == ("ok", NOON)


def test_a_medium_that_disappears_keeps_its_data(store: Store) -> None:
    save(store, clip("a"))

    mark(store, "a", state=FORBIDDEN, at=NOON + SECOND)

    found = record(store, "a")
    assert (found["state"], found["changed_at"], found["title"]) == ("forbidden", NOON + SECOND, "Demo")
    assert len(found["play_infos"]) == 1


def test_the_same_answer_after_an_absence_is_a_change(store: Store) -> None:
    save(store, clip("a"))
    mark(store, "a", at=NOON + SECOND)

    saved = save(store, clip("a"), at=NOON + 2 * SECOND)

    assert saved.changed == ["a"]
    assert row(store, "a").state == "ok"


def test_unreadable_fields_are_listed_and_the_rest_is_stored(store: Store) -> None:
    odd = element("a", CateId="not a number")

    save(store, typed(odd))

    found = record(store, "a")
    assert (found["cate_id"], found["title"]) == (None, "Demo")
    assert found["unreadable"] == ["MediaInfo.CateId"]


@pytest.mark.parametrize(
    "title", ["👩‍👩‍👧‍👦 猫 ñ", 'it\'s "quoted" \\ % _ ; --', "x" * 70_000, "\u202eright to left", "\u0000nul"], ids=range(5)
)
def test_titles_of_any_alphabet_and_length_survive(store: Store, title: str) -> None:
    save(store, clip("a", Title=title))

    assert row(store, "a").title == clip("a", Title=title).title


@pytest.mark.parametrize("seconds", ["0.000001", "999999999.123456", "-0.046440", "86400.5"])
def test_decimals_come_back_exactly(store: Store, seconds: str) -> None:
    exact = element("a")
    exact["MezzanineInfo"]["Duration"] = seconds

    save(store, typed(exact))

    assert row(store, "a", tables.mezzanine).duration == Decimal(seconds)


def test_ids_that_differ_only_in_case_are_two_media(store: Store) -> None:
    save(store, clip("abc"), clip("ABC", Title="Other"))

    assert (row(store, "abc").title, row(store, "ABC").title) == ("Demo", "Other")


def test_workers_that_save_the_same_media_at_once_end_with_the_newest(store: Store) -> None:
    ids = [f"m{number}" for number in range(20)]

    def work(turn: int) -> None:
        for step in range(5):
            age = (step * 4 + turn) * SECOND
            save(store, *(clip(each, Title=f"at {age.total_seconds():.0f}") for each in ids), at=NOON + age)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    newest = NOON + timedelta(seconds=19)
    assert {(row(store, each).title, row(store, each).observed_at) for each in ids} == {("at 19", newest)}
    with store.reading() as connection:
        streams = connection.execute(select(tables.video_stream.c.media_id)).all()
    assert len(streams) == 20
