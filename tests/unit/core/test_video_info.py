"""Answers of GetVideoInfo (vod-protocol 9.7)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from worker.core.media import VideoInfo
from worker.core.normalise import read_video_info


@pytest.mark.parametrize(
    "video",
    [
        # The old shape: numbers as text, snapshots as JSON text in an object.
        {"Size": "10897890", "Duration": "135.6", "CateId": "781111", "Snapshots": {"Snapshot": '["http://a/1.jpg?auth_key=1"]'}},
        # The newer one.
        {"Size": 10897890, "Duration": 135.6, "CateId": 781111, "Snapshots": {"Snapshot": ["http://a/1.jpg?auth_key=2"]}},
        {"Size": 10897890, "Duration": 135.6, "CateId": 781111, "Snapshots": ["http://a/1.jpg"]},
    ],
)
def test_all_forms_of_get_video_info_are_equal(video: dict[str, Any]) -> None:
    common = {
        "VideoId": "9b73",
        "Title": "Pier",
        "AuditStatus": "Normal",
        "RegionId": "cn-shanghai",
        "Status": "Normal",
        "Tags": "a,b",
        "CreationTime": "2017-11-14T09:15:50Z",
        "CustomMediaInfo": '{"aaa":"test"}',
    }

    info = read_video_info({"RequestId": "R", "Video": common | video})

    assert info is not None
    assert info == VideoInfo(
        media_id="9b73",
        title="Pier",
        audit_status="Normal",
        region_id="cn-shanghai",
        status="Normal",
        tags=("a", "b"),
        created_at=datetime(2017, 11, 14, 9, 15, 50, tzinfo=UTC),
        custom_media_info='{"aaa":"test"}',
        size=10897890,
        duration=Decimal("135.6"),
        cate_id=781111,
        snapshots=("http://a/1.jpg",),
        raw=info.raw,
    )


def test_unreadable_fields_are_listed() -> None:
    info = read_video_info({"Video": {"VideoId": "v", "Size": "big", "Snapshots": 5.5, "AuditStatus": []}})

    assert info is not None
    assert info.unreadable == ("AuditStatus", "Size")


@pytest.mark.parametrize("body", [None, [], {}, {"Video": None}, {"Video": []}, {"Video": {}}, {"Video": {"VideoId": "v" * 65}}])
def test_an_answer_without_an_asset_is_none(body: object) -> None:
    assert read_video_info(body) is None
