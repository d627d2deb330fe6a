"""Derive typed columns again from VOD's stored answers, on each of the three databases."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import bindparam, select, text, update

from tests.builders import NOON, SECOND, announced, clip, element, typed
from worker.core.media import Media
from worker.core.normalise import read_media
from worker.emulator.library.library import Library
from worker.store import Store, tables
from worker.store.catalogue.assets import MISSING, Catalogue, Saved
from worker.store.catalogue.rederive import Rederivation
from worker.store.jobs.job_rows import Job, Jobs
from worker.store.outbox import Outbox
from worker.sync.jobs import renormalise
from worker.sync.jobs.renormalise import KIND, Renormalise, preview
from worker.sync.jobs.run import run_jobs

LATER = NOON + timedelta(days=1)
TABLES = (tables.media, tables.mezzanine, tables.audio_stream, tables.video_stream, tables.play_info, tables.raw)


def save(store: Store, medias: Iterable[Media], at: datetime = NOON) -> Saved:
    return store.transact(lambda connection: Catalogue(connection).save("default", medias, observed_at=at))


def run(store: Store, *, steps: int | None = None, announce: bool = False) -> Job:
    """Run the job for `steps` steps, or to its end. Return it as it is stored then."""
    job, _ = store.transact(lambda connection: Jobs(connection).start("default", KIND, {}, now=LATER))
    kind = StepLimit(Renormalise(store, "default", announce=announce), steps)
    while job.finished_at is None and not kind.stopping.is_set():
        run_jobs(store, {("default", KIND): kind}, now=lambda: LATER, lease=timedelta(minutes=1), stopping=kind.stopping)
        with store.reading() as connection:
            stored = Jobs(connection).find(job.id)
        assert stored is not None
        assert stored.last_error is None
        job = stored
    return job


class StepLimit:
    """Stops the worker after `steps` steps."""

    def __init__(self, kind: Renormalise, steps: int | None) -> None:
        self.stopping = threading.Event()
        self._kind, self._left = kind, steps

    def step(self, job: Job, **options: Any) -> Any:
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.stopping.set()
        return self._kind.step(job, **options)


def contents(store: Store) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
    """Return every row of every table by its key."""
    with store.reading() as connection:
        return {
            table.name: {
                tuple(row._mapping[column] for column in table.primary_key.columns): dict(row._mapping)
                for row in connection.execute(select(table))
            }
            for table in TABLES
        }


def library(count: int) -> list[Media]:
    emulated = Library(seed=7, existing=count, quirks=True)
    medias = [read_media(emulated.element(index, NOON.timestamp())) for index in range(count)]
    return [media for media in medias if media is not None]


def damage(store: Store, *statements: str) -> None:
    with store.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_answers_with_every_quirk_are_derived_to_the_same_rows(store: Store) -> None:
    medias = library(1200)
    save(store, medias)
    before = contents(store)

    done = run(store)

    assert done.state == "done"
    assert done.counters == {"read": len(medias), "changed": 0, "total": len(medias)}
    assert contents(store) == before


@pytest.mark.parametrize(
    "value",
    [
        1e16,
        1.5e17,
        1e300,
        -0.0,
        5e-324,
        1.0,
        2**63,
        -(2**63),
        10**30,
        "\u0000\ud800",
        "é👩‍👩‍👧",
        [[[{"a": None}]]],
        True,
        0.1 + 0.2,
    ],
    ids=str,
)
def test_any_value_in_a_stored_answer_is_derived_unchanged(store: Store, value: Any) -> None:
    odd = element("a", Title=value, UserData={"b": value, "a": value}, CateId=value, Unheard=value)
    odd["MezzanineInfo"] |= {"Duration": value, "Fps": value, "Size": value}
    save(store, [typed(odd)])
    before = contents(store)

    done = run(store)
    saved = save(store, [typed(odd)], at=NOON + SECOND)

    assert done.counters["changed"] == 0
    assert saved.unchanged == ["a"]
    del before["vod_media"]
    assert before.items() <= contents(store).items()


def test_a_decimal_that_sqlite_rounds_is_not_a_difference(store: Store) -> None:
    exact = element("a")
    exact["MezzanineInfo"]["Duration"] = "999999999999.123457"
    save(store, [typed(exact)])

    assert run(store).counters["changed"] == 0


def test_only_assets_with_damaged_columns_are_repaired(store: Store) -> None:
    save(store, library(600))
    save(store, [clip(media_id, Title=f"Title of {media_id}") for media_id in "abcdefgh"])
    store.transact(lambda connection: Catalogue(connection).mark("default", ["h"], MISSING, observed_at=NOON + SECOND))
    before = contents(store)
    damage(
        store,
        "UPDATE vod_media SET title = NULL, tags = NULL, cate_id = 5 WHERE media_id IN ('a', 'h')",
        "UPDATE vod_mezzanine SET duration = 1, size = NULL WHERE media_id = 'b'",
        "DELETE FROM vod_video_stream WHERE media_id = 'c'",
        "UPDATE vod_audio_stream SET stream_index = '9' WHERE media_id = 'd'",
        "INSERT INTO vod_play_info (source, media_id, job_id) VALUES ('default', 'e', 'none')",
        "UPDATE vod_raw SET unreadable = '[\"MediaInfo.Title\"]' WHERE media_id = 'f'",
    )

    done = run(store)

    after = contents(store)
    changed = {media_id for (media_id, _), row in after["vod_media"].items() if row["changed_at"] == LATER}
    assert done.counters["changed"] == 7
    assert changed == set("abcdefh")
    assert after["vod_media"]["h", "default"]["state"] == "missing"
    assert without_changed_at(after) == without_changed_at(before)
    assert run(store).counters["changed"] == 0


def without_changed_at(contents_of_tables: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> Any:
    return {
        table: {key: {name: value for name, value in row.items() if name != "changed_at"} for key, row in rows.items()}
        for table, rows in contents_of_tables.items()
    }


def test_after_the_repair_the_same_answer_is_unchanged(store: Store) -> None:
    save(store, [clip("a")])
    damage(store, "UPDATE vod_media SET title = 'Wrong', content_hash = 'of an older release'")

    run(store)
    saved = save(store, [clip("a")], at=NOON + SECOND)

    assert saved.unchanged == ["a"]


def test_a_different_hash_alone_is_not_a_change(store: Store) -> None:
    save(store, [clip("a")])
    before = contents(store)
    damage(store, "UPDATE vod_media SET content_hash = 'of an older release'")

    done = run(store)

    assert done.counters["changed"] == 0
    assert contents(store) == before


def test_columns_of_a_newer_answer_without_analysis_are_kept(store: Store) -> None:
    save(store, [clip("a")])
    save(store, [typed(announced("a", Title="Renamed"))], at=NOON + SECOND)
    before = contents(store)
    damage(store, "UPDATE vod_mezzanine SET duration = 1")

    done = run(store)

    after = contents(store)
    assert done.counters["changed"] == 1
    assert after["vod_media"]["a", "default"]["title"] == "Renamed"
    assert after["vod_media"]["a", "default"]["content_hash"] is None
    assert without_changed_at(after) == without_changed_at(before)


def test_signatures_that_an_older_release_stored_are_removed(store: Store) -> None:
    save(store, [clip("a")])
    signed = clip("a").raw | {"MediaInfo": {"MediaId": "a", "CoverURL": "http://x.example/c.jpg?auth_key=1-0-0-aa"}}
    with store.engine.begin() as connection:
        connection.execute(update(tables.raw).values(answer=signed))

    run(store)

    after = contents(store)
    assert after["vod_media"]["a", "default"]["cover_url"] == "http://x.example/c.jpg"
    assert "auth_key" not in str(after["vod_raw"])


def test_assets_that_vod_never_showed_are_skipped(store: Store) -> None:
    store.transact(lambda connection: Catalogue(connection).mark("default", ["a"], MISSING, observed_at=NOON))

    assert run(store).counters == {"read": 0, "changed": 0, "total": 0}


def test_a_run_continues_from_its_checkpoint(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renormalise, "ASSETS_PER_STEP", 3)
    save(store, [clip(f"m{number}") for number in range(8)])
    damage(store, "UPDATE vod_media SET title = NULL")

    halfway = run(store, steps=1)
    done = run(store)

    assert (halfway.state, halfway.checkpoint, halfway.counters["changed"]) == ("running", {"media_id": "m2"}, 3)
    assert (done.id, done.state) == (halfway.id, "done")
    assert (done.counters["read"], done.counters["changed"]) == (8, 8)


def test_a_preview_writes_nothing(store: Store) -> None:
    save(store, [clip("a"), clip("b")])
    damage(store, "UPDATE vod_media SET title = NULL WHERE media_id = 'a'")
    before = contents(store)

    counted = list(preview(store, "default"))

    assert counted == [{"read": 2, "changed": 1}]
    assert contents(store) == before


def test_a_newer_answer_stored_meanwhile_is_kept(store: Store) -> None:
    save(store, [clip("a"), clip("b")])
    damage(store, "UPDATE vod_media SET title = 'Wrong'")
    with store.reading() as connection:
        compared = Rederivation(connection, "default").compare("", limit=10)
    newer = element("a", Title="Newer")
    newer["PlayInfoList"] = [{"JobId": "newer"}]
    save(store, [typed(newer)], at=NOON + SECOND)

    changed = store.transact(lambda connection: Rederivation(connection, "default").repair(compared.differences, now=LATER))

    after = contents(store)
    assert changed == 1
    assert {key[0]: (row["title"], row["changed_at"]) for key, row in after["vod_media"].items()} == {
        "a": ("Newer", NOON + SECOND),
        "b": ("Demo", LATER),
    }
    assert ("a", "default", "newer") in after["vod_play_info"]


def test_concurrent_saves_and_repairs_keep_the_newest_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renormalise, "ASSETS_PER_STEP", 7)
    ids = [f"m{number:02}" for number in range(20)]
    save(store, [clip(media_id) for media_id in ids])
    stopping = threading.Event()

    def store_newer() -> None:
        for version in range(1, 13):
            save(store, [numbered(media_id, version) for media_id in ids], at=NOON + version * SECOND)
        stopping.set()

    def damage_and_repair() -> None:
        statement = (
            update(tables.video_stream).where(tables.video_stream.c.media_id == bindparam("damaged_id")).values(fps=Decimal(1))
        )
        while not stopping.is_set():
            store.transact(lambda connection: connection.execute(statement, [{"damaged_id": media_id} for media_id in ids[::3]]))
            run(store)

    threads = [threading.Thread(target=work) for work in (store_newer, damage_and_repair)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    run(store)

    repaired = contents(store)
    assert {row["title"] for row in repaired["vod_media"].values()} == {"12"}
    assert {row["fps"] for row in repaired["vod_video_stream"].values()} == {Decimal("12")}
    assert sorted(key[2] for key in repaired["vod_play_info"]) == sorted(f"job-{media_id}" for media_id in ids)
    assert save(store, [numbered(media_id, 12) for media_id in ids], at=LATER + SECOND).unchanged == ids


def numbered(media_id: str, version: int) -> Media:
    raw = element(media_id, Title=str(version))
    raw["MezzanineInfo"]["VideoStreamList"][0]["Fps"] = str(version)
    return typed(raw)


def test_repairs_are_announced_if_changes_are(store: Store) -> None:
    save(store, [clip("a"), clip("b"), clip("c")])
    with store.engine.begin() as connection:
        connection.execute(update(tables.media).where(tables.media.c.media_id == "a").values(title="damaged"))
        connection.execute(update(tables.video_stream).where(tables.video_stream.c.media_id == "b").values(codec_name="damaged"))

    run(store, announce=True)

    with store.reading() as connection:
        announced_changes = [(change.media_id, change.change, change.fields) for change in Outbox(connection).oldest(10)]
    assert announced_changes == [("a", "updated", ["title"]), ("b", "updated", ["video_streams"])]
