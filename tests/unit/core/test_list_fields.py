"""Lists inside one asset: snapshots, streams and play infos."""

from __future__ import annotations

import json

import pytest

from tests.unit.core.answers import (
    media_info,
    read,
)
from worker.core.media import PlayInfo, VideoStream

# Snapshots (vod-protocol 7.3, 7.4)

URLS = ("http://a.example.org/1.jpg?x=1,2", "http://a.example.org/2.jpg")


@pytest.mark.parametrize(
    "written",
    [
        list(URLS),
        [json.dumps(URLS)],
        json.dumps(URLS),
        {"Snapshot": json.dumps(URLS)},
        {"Snapshot": list(URLS)},
        json.dumps({"Snapshot": URLS}),
        [json.dumps(URLS[:1]), URLS[1]],
        [f" {URLS[0]}\n", None, "", URLS[1]],
    ],
)
def test_snapshots_are_read_in_every_form(written: object) -> None:
    media = media_info(Snapshots=written)

    assert media.snapshots == URLS
    assert media.unreadable == ()


@pytest.mark.parametrize(
    ("written", "snapshots"),
    [([], ()), ("[]", ()), (None, None), ("", None), (" ", None), ({"Snapshot": []}, ()), ({"Snapshot": ""}, None)],
)
def test_an_empty_list_of_snapshots_differs_from_an_absent_one(written: object, snapshots: tuple[str, ...] | None) -> None:
    media = media_info(Snapshots=written)

    assert media.snapshots == snapshots
    assert media.unreadable == ()


def test_snapshots_that_are_not_valid_json_are_kept_as_text() -> None:
    broken = '["http://a.example.org/1.jpg",...]'

    assert media_info(Snapshots=[broken]).snapshots == (broken,)
    assert media_info(Snapshots=broken).snapshots == (broken,)


def test_snapshots_of_another_type_are_listed_as_unreadable() -> None:
    media = media_info(Snapshots=[URLS[1], {"Url": "x"}])

    assert media.snapshots == URLS[1:]
    assert media.unreadable == ("MediaInfo.Snapshots",)
    assert media_info(Snapshots={"Url": "x"}).snapshots is None


def test_json_text_inside_snapshots_is_made_storable_without_signatures() -> None:
    inner = json.dumps(["http://a/1.jpg?auth_key=1&x=\0", "b"])

    assert media_info(Snapshots=[inner]).snapshots == ("http://a/1.jpg?x=\ufffd", "b")


# Streams and play infos (vod-protocol 7.28)


def test_play_infos_are_identified_by_their_job() -> None:
    newest = {"JobId": "j2", "Definition": "HD", "Format": "mp4", "Status": "Normal"}

    media = read({"PlayInfoList": [newest, newest | {"JobId": "j1", "Status": "Invisible"}]})

    assert [(play.job_id, play.status) for play in media.play_infos] == [("j2", "Normal"), ("j1", "Invisible")]


def test_a_stream_without_a_key_of_its_own_does_not_affect_the_others() -> None:
    plays = [{"JobId": "a", "Size": 1}, {"Size": 2}, {"JobId": " a "}, None, "x", {"JobId": "j" * 129}, {"JobId": []}, {"JobId": 7}]
    streams = [{"Index": 0}, {"Index": "0"}, {"Index": "i" * 65}, {"Index": "1"}]

    media = read({"PlayInfoList": plays, "MezzanineInfo": {"VideoStreamList": streams}})

    assert media.play_infos == (PlayInfo(job_id="a", size=1), PlayInfo(job_id="7"))
    assert media.video_streams == (VideoStream(stream_index="0"), VideoStream(stream_index="1"))
    assert media.unreadable == (
        "MezzanineInfo.VideoStreamList[1]",
        "MezzanineInfo.VideoStreamList[2]",
        *(f"PlayInfoList[{position}]" for position in range(1, 7)),
    )
