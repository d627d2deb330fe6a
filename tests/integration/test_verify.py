"""Compare stored assets with VOD's answer, on each of the three databases."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tests.builders import NOON, SECOND, SETTINGS, element, notify, source_context
from tests.sync_harness import replace_method
from worker.core.errors import VodCredentialsError, VodRefusedError, VodUnavailableError, VodUnreadableError
from worker.store import Store
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.store.tables import media, raw, video_info
from worker.sync.batch import sync_batch
from worker.sync.source_context import SyncSettings
from worker.sync.verify import Comparison, compare_with_vod
from worker.sync.video_info import fetch_video_infos
from worker.vod.testing import FakeVod

WITH_VIDEO_INFO = replace(SETTINGS, video_info=True)


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


def sync(store: Store, vod: FakeVod, asset: dict[str, Any], *, settings: SyncSettings = WITH_VIDEO_INFO) -> dict[str, Any]:
    """Store an asset completely. Return the copy that VOD has, which the test may change."""
    vod.put(asset)
    notify(store, asset["MediaId"])
    sync_batch(store, source_context(vod, settings), now=NOON + SECOND)
    fetch_video_infos(store, source_context(vod, settings), now=NOON + 2 * SECOND)
    store.transact(lambda connection: RateLimiter(connection).take("default", BATCH_GET_MEDIA_INFOS, per_second=1000))
    changed = deepcopy(asset)
    vod.put(changed)
    vod.calls.clear()
    return changed


def compare(store: Store, vod: FakeVod, media_id: str = "a", *, settings: SyncSettings = WITH_VIDEO_INFO) -> Comparison:
    return compare_with_vod(store, source_context(vod, settings), media_id)


def differences(comparison: Comparison) -> dict[str, tuple[Any, Any]]:
    """Return the stored value and VOD's value of each field that differs."""
    return {difference.field: (difference.stored, difference.at_vod) for difference in comparison.differences}


def test_an_unchanged_asset_has_no_difference(store: Store, vod: FakeVod) -> None:
    full = element(
        "a",
        CateId=10**10,
        CreationTime="2026-03-01T11:59:00Z",
        CoverURL="http://i/c.jpg?auth_key=1-0-0-aa",
        Snapshots=['["http://i/1.jpg?auth_key=1-0-0-aa"]'],
        UserData={"Extend": "{}"},
    )
    full["MezzanineInfo"] |= {"Duration": "123456789012.123456", "Fps": "30000/1001", "FileName": "demo.mp4\n"}
    changed = sync(store, vod, full)
    changed["MediaInfo"] |= {"CoverURL": "http://i/c.jpg?auth_key=2-0-0-bb", "Snapshots": ["http://i/1.jpg?auth_key=2-0-0-bb"]}

    comparison = compare(store, vod)

    assert (comparison.stored, comparison.at_vod, differences(comparison)) == ("ok", "ok", {})
    assert vod.calls == [["a"], ["a"]]


def test_each_difference_names_its_field_and_both_values(store: Store, vod: FakeVod) -> None:
    changed = sync(store, vod, element("a"))
    changed["MediaInfo"] |= {"Title": "New", "Tags": "b"}
    changed["MezzanineInfo"]["VideoStreamList"][0]["CodecName"] = "hevc"
    changed["MezzanineInfo"]["AudioStreamList"] = []
    changed["PlayInfoList"] = [{"JobId": "job-a", "Definition": "HD", "Encrypt": 0}, {"JobId": "job-b", "Definition": "LD"}]
    blocked = {"Video": {"VideoId": "a", "AuditStatus": "Blocked", "RegionId": "cn-shanghai"}}
    replace_method(vod, "get_video_info", lambda _media_id: blocked)

    comparison = compare(store, vod)

    assert differences(comparison) == {
        "title": ("Demo", "New"),
        "tags": (["a", "b"], ["b"]),
        "audit_status": ("Normal", "Blocked"),
        "video_streams[0].codec_name": ("h264", "hevc"),
        "audio_streams[1]": ({"stream_index": "1", "codec_name": "aac", "sample_rate": 44100}, None),
        "play_infos[job-a].encrypt": (True, False),
        "play_infos[job-b]": (None, {"job_id": "job-b", "definition": "LD"}),
    }


def test_streams_are_compared_by_key_in_any_order(store: Store, vod: FakeVod) -> None:
    with_two_streams = element("a")
    with_two_streams["PlayInfoList"] = [{"JobId": "y", "Definition": "HD"}, {"JobId": "x", "Definition": "LD"}]
    changed = sync(store, vod, with_two_streams)
    changed["PlayInfoList"].reverse()

    assert differences(compare(store, vod)) == {}


def test_fields_that_are_not_stored_are_listed_and_not_a_difference(store: Store, vod: FakeVod) -> None:
    sync(store, vod, element("a"), settings=SETTINGS)

    comparison = compare(store, vod, settings=SETTINGS)

    assert differences(comparison) == {}
    assert comparison.not_kept == {"audit_status": "Normal", "region_id": "cn-shanghai"}


def test_a_refusal_of_get_video_info_is_an_error_only_if_its_fields_are_stored(store: Store, vod: FakeVod) -> None:
    sync(store, vod, element("a"))

    def refuse(media_id: str) -> dict[str, Any]:
        raise VodCredentialsError("Forbidden.RAM")

    replace_method(vod, "get_video_info", refuse)

    comparison = compare(store, vod, settings=SETTINGS)

    assert (comparison.error, comparison.at_vod) == ("Forbidden.RAM", "ok")
    with pytest.raises(VodCredentialsError):
        compare(store, vod)


def test_an_asset_that_vod_no_longer_knows_differs_in_its_state(store: Store, vod: FakeVod) -> None:
    sync(store, vod, element("a"))
    vod.media.clear()

    gone = compare(store, vod)
    vod.forbidden = {"a"}
    forbidden = compare(store, vod)
    vod.forbidden = set()
    vod.fail(VodRefusedError("404", code="InvalidVideo.NotFound", status=404))
    refused = compare(store, vod)

    assert differences(gone) == differences(refused) == {"state": ("ok", "missing")}
    assert differences(forbidden) == {"state": ("ok", "forbidden")}
    assert vod.calls == [["a"], ["a"], ["a"]]


@pytest.mark.parametrize("state", ["missing", "deleted"])
def test_an_asset_that_is_gone_on_both_sides_has_no_difference(store: Store, vod: FakeVod, state: str) -> None:
    sync(store, vod, element("a"))
    vod.media.clear()
    store.transact(lambda connection: connection.execute(media.update().values(state=state)))

    assert differences(compare(store, vod)) == {}


def test_an_asset_that_is_not_stored_has_no_stored_state(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))

    not_stored = compare(store, vod)
    unknown = compare(store, vod, "b")

    assert (not_stored.stored, not_stored.at_vod) == (None, "ok")
    assert differences(not_stored)["title"] == (None, "Demo")
    assert (unknown.stored, unknown.at_vod) == (None, "missing")


def test_a_comparison_writes_no_asset(store: Store, vod: FakeVod) -> None:
    changed = sync(store, vod, element("a"))
    changed["MediaInfo"]["Title"] = "New"
    before = _stored_rows(store)

    compare(store, vod)

    assert _stored_rows(store) == before


def _stored_rows(store: Store) -> list[Any]:
    with store.reading() as connection:
        return [connection.execute(select(table)).all() for table in (media, raw, video_info)]


def test_a_source_in_back_off_is_not_called(store: Store, vod: FakeVod) -> None:
    def back_off(connection: Connection) -> None:
        RateLimiter(connection).take("default", BATCH_GET_MEDIA_INFOS, per_second=1000)
        RateLimiter(connection).back_off("default", BATCH_GET_MEDIA_INFOS, 60 * SECOND, fault="wrong keys")

    store.transact(back_off)

    with pytest.raises(VodUnavailableError, match=r"not called for another \d+ s: wrong keys"):
        compare(store, vod)

    assert vod.calls == []


def test_an_answer_that_omits_the_id_cannot_be_compared(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))
    vod.omitted = {"a"}

    with pytest.raises(VodUnreadableError):
        compare(store, vod)
