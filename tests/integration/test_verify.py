"""Stored rows beside VOD's answer, on each of the three databases."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders import NOON, SECOND, SETTINGS, element, notify, source_context
from worker.core.errors import VodCredentialsError, VodRefusedError, VodUnavailableError, VodUnreadableError
from worker.store import Store
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter
from worker.store.tables import media, raw, video_info
from worker.sync.batch import sync_batch
from worker.sync.source_context import SyncSettings
from worker.sync.verify import Comparison, compare_with_vod
from worker.sync.video_info import fetch_video_infos
from worker.vod.testing import FakeVod

KEEPING = replace(SETTINGS, video_info=True)


@pytest.fixture
def vod() -> FakeVod:
    return FakeVod()


def stored(store: Store, vod: FakeVod, medium: dict[str, Any], *, settings: SyncSettings = KEEPING) -> dict[str, Any]:
    """VOD's element of a medium whose rows are complete; a copy of it is what VOD goes on with."""
    vod.put(medium)
    notify(store, medium["MediaId"])
    sync_batch(store, source_context(vod, settings), now=NOON + SECOND)
    fetch_video_infos(store, source_context(vod, settings), now=NOON + 2 * SECOND)
    store.transact(lambda connection: RateLimiter(connection).take("default", BATCH_GET_MEDIA_INFOS, per_second=1000))
    changed = deepcopy(medium)
    vod.put(changed)
    vod.calls.clear()
    return changed


def live(store: Store, vod: FakeVod, media_id: str = "a", *, settings: SyncSettings = KEEPING) -> Comparison:
    return compare_with_vod(store, source_context(vod, settings), media_id)


def differing(found: Comparison) -> dict[str, tuple[Any, Any]]:
    return {each.field: (each.stored, each.at_vod) for each in found.differences}


def test_a_medium_that_did_not_change_shows_no_difference(store: Store, vod: FakeVod) -> None:
    full = element(
        "a",
        CateId=10**10,
        CreationTime="2026-03-01T11:59:00Z",
        CoverURL="http://i/c.jpg?auth_key=1-0-0-aa",
        Snapshots=['["http://i/1.jpg?auth_key=1-0-0-aa"]'],
        UserData={"Extend": "{}"},
    )
    full["MezzanineInfo"] |= {"Duration": "123456789012.123456", "Fps": "30000/1001", "FileName": "demo.mp4\n"}
    changed = stored(store, vod, full)
    changed["MediaInfo"] |= {"CoverURL": "http://i/c.jpg?auth_key=2-0-0-bb", "Snapshots": ["http://i/1.jpg?auth_key=2-0-0-bb"]}

    found = live(store, vod)

    assert (found.stored, found.at_vod, differing(found)) == ("ok", "ok", {})
    assert vod.calls == [["a"], ["a"]]


def test_each_difference_names_its_field_and_both_values(store: Store, vod: FakeVod) -> None:
    changed = stored(store, vod, element("a"))
    changed["MediaInfo"] |= {"Title": "New", "Tags": "b"}
    changed["MezzanineInfo"]["VideoStreamList"][0]["CodecName"] = "hevc"
    changed["MezzanineInfo"]["AudioStreamList"] = []
    changed["PlayInfoList"] = [{"JobId": "job-a", "Definition": "HD", "Encrypt": 0}, {"JobId": "job-b", "Definition": "LD"}]
    vod.get_video_info = lambda media_id: {"Video": {"VideoId": "a", "AuditStatus": "Blocked", "RegionId": "cn-shanghai"}}  # type: ignore[method-assign, misc]

    found = live(store, vod)

    assert differing(found) == {
        "title": ("Demo", "New"),
        "tags": (["a", "b"], ["b"]),
        "audit_status": ("Normal", "Blocked"),
        "video_streams[0].codec_name": ("h264", "hevc"),
        "audio_streams[1]": ({"stream_index": "1", "codec_name": "aac", "sample_rate": 44100}, None),
        "play_infos[job-a].encrypt": (True, False),
        "play_infos[job-b]": (None, {"job_id": "job-b", "definition": "LD"}),
    }


def test_streams_are_paired_by_their_key_and_not_by_their_order(store: Store, vod: FakeVod) -> None:
    two = element("a")
    two["PlayInfoList"] = [{"JobId": "y", "Definition": "HD"}, {"JobId": "x", "Definition": "LD"}]
    changed = stored(store, vod, two)
    changed["PlayInfoList"].reverse()

    assert differing(live(store, vod)) == {}


def test_what_nobody_asked_to_keep_is_told_and_no_difference(store: Store, vod: FakeVod) -> None:
    stored(store, vod, element("a"), settings=SETTINGS)

    found = live(store, vod, settings=SETTINGS)

    assert differing(found) == {}
    assert found.not_kept == {"audit_status": "Normal", "region_id": "cn-shanghai"}


def test_a_right_that_is_missing_for_the_single_video_operation_matters_only_where_it_is_kept(store: Store, vod: FakeVod) -> None:
    stored(store, vod, element("a"))

    def refuse(media_id: str) -> dict[str, Any]:
        raise VodCredentialsError("Forbidden.RAM")

    vod.get_video_info = refuse  # type: ignore[method-assign]

    found = live(store, vod, settings=SETTINGS)

    assert (found.error, found.at_vod) == ("Forbidden.RAM", "ok")
    with pytest.raises(VodCredentialsError):
        live(store, vod)


def test_a_medium_that_vod_no_longer_knows_differs_in_its_state(store: Store, vod: FakeVod) -> None:
    stored(store, vod, element("a"))
    vod.media.clear()

    gone = live(store, vod)
    vod.forbidden = {"a"}
    forbidden = live(store, vod)
    vod.forbidden = set()
    vod.fail(VodRefusedError("404", code="InvalidVideo.NotFound", status=404))
    refused = live(store, vod)

    assert differing(gone) == differing(refused) == {"state": ("ok", "missing")}
    assert differing(forbidden) == {"state": ("ok", "forbidden")}
    assert vod.calls == [["a"], ["a"], ["a"]]


@pytest.mark.parametrize("state", ["missing", "deleted"])
def test_what_is_gone_on_both_sides_is_no_difference(store: Store, vod: FakeVod, state: str) -> None:
    stored(store, vod, element("a"))
    vod.media.clear()
    store.transact(lambda connection: connection.execute(media.update().values(state=state)))

    assert differing(live(store, vod)) == {}


def test_nothing_stored_is_said(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))

    unknown_here = live(store, vod)
    unknown_everywhere = live(store, vod, "b")

    assert (unknown_here.stored, unknown_here.at_vod) == (None, "ok")
    assert differing(unknown_here)["title"] == (None, "Demo")
    assert (unknown_everywhere.stored, unknown_everywhere.at_vod) == (None, "missing")


def test_looking_writes_no_medium(store: Store, vod: FakeVod) -> None:
    changed = stored(store, vod, element("a"))
    changed["MediaInfo"]["Title"] = "New"
    before = _rows(store)

    live(store, vod)

    assert _rows(store) == before


def _rows(store: Store) -> list[Any]:
    with store.reading() as connection:
        return [connection.execute(select(table)).all() for table in (media, raw, video_info)]


def test_a_source_that_is_held_back_is_not_asked(store: Store, vod: FakeVod) -> None:
    def hold(connection: Any) -> None:
        RateLimiter(connection).take("default", BATCH_GET_MEDIA_INFOS, per_second=1000)
        RateLimiter(connection).back_off("default", BATCH_GET_MEDIA_INFOS, 60 * SECOND, fault="wrong keys")

    store.transact(hold)

    with pytest.raises(VodUnavailableError, match=r"not called for another \d+ s: wrong keys"):
        live(store, vod)

    assert vod.calls == []


def test_an_answer_that_passes_over_the_id_cannot_be_compared(store: Store, vod: FakeVod) -> None:
    vod.put(element("a"))
    vod.omitted = {"a"}

    with pytest.raises(VodUnreadableError):
        live(store, vod)
