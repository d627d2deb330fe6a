"""Select stored assets with a filter, on each of the three databases."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.builders import NOON, SECOND, clip, element, typed
from worker.core.media import Media
from worker.store import Store
from worker.store.catalogue import media_filter
from worker.store.catalogue.assets import MISSING, Catalogue
from worker.store.catalogue.media_filter import MediaFilter, selected


def save(store: Store, *medias: Media, at: datetime = NOON, source: str = "default") -> None:
    store.transact(lambda connection: Catalogue(connection).save(source, medias, observed_at=at))


def select_ids(store: Store, **filters: Any) -> list[str]:
    return list(selected(store, "default", MediaFilter(**filters)))


def with_codec(media_id: str, part: str, codec: str) -> Media:
    answer = element(media_id)
    if part == "PlayInfoList":
        answer[part][0]["CodecName"] = codec
    else:
        answer["MezzanineInfo"][part][0]["CodecName"] = codec
    return typed(answer)


def test_a_filter_selects_assets_of_its_source_by_their_columns(store: Store) -> None:
    save(store, clip("a", StorageClass="IA", CateId=12), clip("b", StorageClass="Standard"), clip("c"))
    save(store, clip("elsewhere", StorageClass="IA"), source="other")
    store.transact(lambda connection: Catalogue(connection).mark("default", ["d"], MISSING, observed_at=NOON))

    assert select_ids(store, where=(("storage_class", "IA"),)) == ["a"]
    assert select_ids(store, where=(("cate_id", 12),)) == ["a"]
    assert select_ids(store, where=(("state", "missing"),)) == ["d"]
    assert select_ids(store, where=(("storage_class", None), ("state", "ok"))) == ["c"]
    assert select_ids(store, where=(("title", "demo"),)) == []


def test_all_conditions_of_a_filter_must_match(store: Store) -> None:
    save(store, clip("old", StorageClass="IA"), clip("plain"))
    save(store, clip("new", StorageClass="IA"), at=NOON + 2 * SECOND)

    matched = select_ids(store, where=(("storage_class", "IA"),), observed_before=NOON + SECOND)

    assert matched == ["old"]


@pytest.mark.parametrize("part", ["VideoStreamList", "AudioStreamList", "PlayInfoList"])
def test_a_codec_matches_any_stream(store: Store, part: str) -> None:
    save(store, clip("a"), with_codec("b", part, "HEVC"))

    assert select_ids(store, codec="hevc") == ["b"]


def test_assets_with_unreadable_fields_can_be_selected(store: Store) -> None:
    save(store, clip("a"), clip("b", CateId="none"))

    assert select_ids(store, unreadable=True) == ["b"]


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 8, 100])
def test_every_asset_is_selected_once_with_any_page_size(store: Store, page_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_filter, "_LAST", media_filter._LAST.offset(page_size - 1))
    ids = ["A", "a", "B", "b", "_1", "-2", "Z9"]
    save(store, *(clip(media_id) for media_id in ids), clip("other", Title="Other"))

    matched = select_ids(store, where=(("title", "Demo"),))

    assert sorted(matched) == sorted(ids)


def test_assets_that_stop_matching_meanwhile_hide_no_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_filter, "_LAST", media_filter._LAST.offset(9))
    ids = [f"m{number:02}" for number in range(35)]
    save(store, *(clip(media_id) for media_id in ids))

    matched = []
    for media_id in selected(store, "default", MediaFilter(observed_before=NOON + SECOND)):
        matched.append(media_id)
        if len(matched) % 5 == 0:
            save(store, *(clip(done) for done in matched), at=NOON + timedelta(hours=1))

    assert matched == ids
