"""Choosing stored media by a filter, on each of the three databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import NOON, SECOND, clip, element, typed
from worker.core.media import Media
from worker.store import Store
from worker.store.catalogue import media_filter
from worker.store.catalogue.assets import MISSING, Catalogue
from worker.store.catalogue.media_filter import MediaFilter, selected


def save(store: Store, *medias: Media, at: Any = NOON, source: str = "default") -> None:
    store.transact(lambda connection: Catalogue(connection).save(source, medias, observed_at=at))


def chosen(store: Store, **filters: Any) -> list[str]:
    return list(selected(store, "default", MediaFilter(**filters)))


def with_codec(media_id: str, part: str, codec: str) -> Media:
    made = element(media_id)
    if part == "PlayInfoList":
        made[part][0]["CodecName"] = codec
    else:
        made["MezzanineInfo"][part][0]["CodecName"] = codec
    return typed(made)


def test_a_filter_is_about_columns_of_the_source_that_is_asked_for(store: Store) -> None:
    save(store, clip("a", StorageClass="IA", CateId=12), clip("b", StorageClass="Standard"), clip("c"))
    save(store, clip("elsewhere", StorageClass="IA"), source="other")
    store.transact(lambda connection: Catalogue(connection).mark("default", ["d"], MISSING, observed_at=NOON))

    assert chosen(store, where=(("storage_class", "IA"),)) == ["a"]
    assert chosen(store, where=(("cate_id", 12),)) == ["a"]
    assert chosen(store, where=(("state", "missing"),)) == ["d"]
    assert chosen(store, where=(("storage_class", None), ("state", "ok"))) == ["c"]
    assert chosen(store, where=(("title", "demo"),)) == []


def test_filters_have_to_be_true_together(store: Store) -> None:
    save(store, clip("old", StorageClass="IA"), clip("plain"))
    save(store, clip("new", StorageClass="IA"), at=NOON + 2 * SECOND)

    found = chosen(store, where=(("storage_class", "IA"),), observed_before=NOON + SECOND)

    assert found == ["old"]


@pytest.mark.parametrize("part", ["VideoStreamList", "AudioStreamList", "PlayInfoList"])
def test_a_codec_may_be_that_of_any_stream(store: Store, part: str) -> None:
    save(store, clip("a"), with_codec("b", part, "HEVC"))

    assert chosen(store, codec="hevc") == ["b"]


def test_media_with_unreadable_fields_can_be_chosen(store: Store) -> None:
    save(store, clip("a"), clip("b", CateId="none"))

    assert chosen(store, unreadable=True) == ["b"]


@pytest.mark.parametrize("window", [1, 2, 3, 7, 8, 100])
def test_every_medium_comes_once_whatever_the_window(store: Store, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_filter, "_LAST", media_filter._LAST.offset(window - 1))
    ids = ["A", "a", "B", "b", "_1", "-2", "Z9"]
    save(store, *(clip(each) for each in ids), clip("other", Title="Other"))

    found = chosen(store, where=(("title", "Demo"),))

    assert sorted(found) == sorted(ids)


def test_media_that_stop_passing_meanwhile_pass_over_no_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_filter, "_LAST", media_filter._LAST.offset(9))
    ids = [f"m{number:02}" for number in range(35)]
    save(store, *(clip(each) for each in ids))

    found = []
    for each in selected(store, "default", MediaFilter(observed_before=NOON + SECOND)):
        found.append(each)
        if len(found) % 5 == 0:
            save(store, *(clip(done) for done in found), at=NOON + timedelta(hours=1))

    assert found == ids
