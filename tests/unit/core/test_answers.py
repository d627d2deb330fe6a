"""Answers of BatchGetMediaInfos as a whole: elements, ids, and parts that are missing or of another type."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.core.answers import (
    FULL_ANSWER,
    SAMPLE_ANSWER,
    media_info,
    read,
)
from worker.core.media import Answer, AudioStream, Media, Mezzanine, PlayInfo, VideoStream
from worker.core.normalise import read_answer

# Whole answers


def test_every_documented_field_is_read_into_its_attribute() -> None:
    answer = read_answer(FULL_ANSWER)

    element = FULL_ANSWER["MediaInfos"][0]
    media = answer.media[0]
    assert answer == Answer(
        request_id="R-2",
        media=(media,),
        missing=frozenset({"dead0000000000000000000000000001", "dead0000000000000000000000000002"}),
        missing_references=frozenset({"456-456"}),
        forbidden=frozenset({"f0rb0000000000000000000000000001"}),
    )
    assert media == Media(
        media_id="5e1b2c3d4e5f60718293a4b5c6d7e8f9",
        title="Harbour at dawn",
        description="a short film",
        status="Normal",
        cate_id=7811112222,
        cate_name="trailers",
        tags=("red", "green"),
        cover_url="https://img.example.org/cover.jpg",
        snapshots=('["http://img.example.org/1.jpg","http://img.example.org/2.jpg",...]',),
        created_at=datetime(2023, 5, 1, 10, 20, 30, tzinfo=UTC),
        modified_at=datetime(2023, 5, 2, 11, 21, 31, tzinfo=UTC),
        storage_location="outin-7.oss-cn-shanghai.aliyuncs.com",
        storage_class="Standard",
        restore_status="Success",
        restore_expiration=datetime(2024, 3, 30, 10, 14, 14, tzinfo=UTC),
        download_switch="on",
        template_group_id="tg-1",
        app_id="app-1000000",
        user_data='{"Extend":"xxx","MessageCallback":"yyy"}',
        reference_id="456-789",
        mezzanine=Mezzanine(
            status="Normal",
            file_name="harbour.mp4",
            file_url="http://bucket.oss-cn-shanghai.aliyuncs.com/sv/harbour.mp4",
            file_md5=None,
            created_at=datetime(2023, 5, 1, 10, 20, 31, tzinfo=UTC),
            size=4096477,
            width=960,
            height=540,
            duration=Decimal("42.493"),
            bitrate=Decimal("771.228"),
            fps=Decimal(25),
        ),
        audio_streams=(
            AudioStream(
                stream_index="0",
                codec_name="aac",
                codec_long_name="AAC (Advanced Audio Coding)",
                codec_tag="0x6134706d",
                codec_tag_string="mp4a",
                codec_time_base="1/44100",
                time_base="0.000000",
                start_at=datetime(2023, 5, 1, 12, tzinfo=UTC),
                duration=Decimal("42.470975"),
                bitrate=Decimal("62.885"),
                sample_rate=44100,
                sample_fmt="fltp",
                channels=1,
                channel_layout="mono",
                num_frames=1830,
                lang="und",
            ),
        ),
        video_streams=(
            VideoStream(
                stream_index="1",
                codec_name="h264",
                codec_long_name="H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10",
                codec_tag="0x31637661",
                codec_tag_string="avc1",
                codec_time_base="1/60",
                time_base="1/15360",
                profile="Main",
                level=30,
                pix_fmt="yuv420p",
                width=960,
                height=540,
                rotate=90,
                sar="0:1",
                dar="16:9",
                has_b_frames=2,
                fps=Decimal(30),
                avg_fps=Decimal(30),
                num_frames=0,
                start_time=Decimal("0.042"),
                duration=Decimal("42.166667"),
                bitrate=Decimal(500),
                lang="und",
                hdr_type="HDR",
            ),
        ),
        play_infos=(
            PlayInfo(
                job_id="job-ld",
                status="Normal",
                stream_type="video",
                format="m3u8",
                definition="LD",
                specification="H264.LD",
                narrow_band_type="0",
                width=360,
                height=640,
                size=418112,
                duration=Decimal("9.0464"),
                bitrate=Decimal("450.878"),
                fps=Decimal(25),
                codec_name="h264",
                hdr_type="HLG",
                bit_depth=8,
                encrypt=True,
                encrypt_type="AliyunVoDEncryption",
                encrypt_mode="License",
                play_url="https://play.example.org/harbour-ld.m3u8",
                watermark_id="wm-1",
                job_type="2",
                job_ext="our mark",
                template_id="tpl-1",
                template_group_id="tg-2",
                created_at=datetime(2023, 5, 1, 10, 25, 15, tzinfo=UTC),
                modified_at=datetime(2023, 5, 3, 6, 32, 19, tzinfo=UTC),
            ),
        ),
        raw=media.raw,
    )
    assert media.raw == element | {"MediaInfo": element["MediaInfo"] | {"Snapshots": list(media.snapshots or ())}}


def test_the_sample_answer_of_the_protocol_is_read_completely() -> None:
    answer = read_answer(SAMPLE_ANSWER)

    media = answer.media[0]
    assert answer.request_id == "R-1"
    assert answer.missing == {"dead0000000000000000000000000001"}
    assert media.unreadable == ()
    assert media.is_analysed
    assert media.cover_url == "http://img.example.org/c.jpg"
    assert media.snapshots == ("http://img.example.org/1.jpg",)
    assert media.video_streams[0].fps == Decimal("29.970030")
    assert media.video_streams[0].start_time == Decimal("-0.04644")
    assert media.play_infos[0].encrypt is False


@pytest.mark.parametrize("body", [None, [], "", "text", 5, True])
def test_an_answer_that_is_not_an_object_is_empty_and_listed_as_unreadable(body: object) -> None:
    assert read_answer(body) == Answer(unreadable=("$",))


def test_an_answer_with_empty_lists_is_readable() -> None:
    assert read_answer({"RequestId": "R", "MediaInfos": None, "NonExistMediaIds": ""}) == Answer(request_id="R")


def test_a_list_of_another_type_is_listed_as_unreadable() -> None:
    answer = read_answer({"MediaInfos": "x", "ForbiddenMediaIds": {"a": 1}})

    assert answer.unreadable == ("MediaInfos", "ForbiddenMediaIds")


def test_an_unreadable_element_does_not_affect_the_others() -> None:
    elements = [None, {"MediaId": "a"}, 5, {}, {"MediaId": "b" * 65}, {"MediaId": ["x"]}, {"MediaId": "c"}]

    answer = read_answer({"MediaInfos": elements})

    assert [media.media_id for media in answer.media] == ["a", "c"]
    assert answer.unreadable == ("MediaInfos[0]", "MediaInfos[2]", "MediaInfos[3]", "MediaInfos[4]", "MediaInfos[5]")


def test_of_two_elements_with_one_id_the_more_complete_one_is_used_or_else_the_first() -> None:
    poor = {"MediaId": "a", "MediaInfo": {"Title": "poor"}}
    rich = {"MediaId": "a", "MediaInfo": {"Title": "rich"}, "MezzanineInfo": {"Duration": "1"}}
    also = {"MediaId": "a", "MediaInfo": {"Title": "also"}, "MezzanineInfo": {"Duration": "2"}}

    for elements in ([poor, rich, also], [rich, poor, also]):
        assert [media.title for media in read_answer({"MediaInfos": elements}).media] == ["rich"]


@pytest.mark.parametrize(
    "extra",
    [
        {"MezzanineInfo": {"Duration": "1", "AudioStreamList": [{"Index": "0"}]}},
        {"MezzanineInfo": {"Duration": "1", "VideoStreamList": [{"Index": "0"}]}},
        {"MezzanineInfo": {"Duration": "1"}, "PlayInfoList": [{"JobId": "j"}]},
    ],
)
def test_of_two_analysed_elements_the_one_with_more_streams_is_used(extra: dict[str, Any]) -> None:
    poor = {"MediaId": "a", "MediaInfo": {"Title": "poor"}, "MezzanineInfo": {"Duration": "1"}}
    rich = {"MediaId": "a", "MediaInfo": {"Title": "rich"}} | extra

    for elements in ([poor, rich], [rich, poor]):
        assert [media.title for media in read_answer({"MediaInfos": elements}).media] == ["rich"]


# Ids (vod-protocol 7.3, 7.15, 7.17, 7.18, 7.19)


@pytest.mark.parametrize(
    "written",
    [
        ["a", "b"],
        ['["a","b"]'],
        '["a","b"]',
        ["a,b"],
        "a, b,",
        ['["a"]', "b"],
        [["a"], ["b"]],
        ["[a,b]"],
        ['["a","b",...'],
        ["b", "a", " a "],
    ],
)
def test_id_lists_are_read_in_every_form(written: object) -> None:
    answer = read_answer({"NonExistMediaIds": written, "ForbiddenMediaIds": written, "NonExistReferenceIds": written})

    assert {"a", "b"} <= answer.missing <= {"a", "b", "..."}
    assert answer.missing == answer.forbidden == answer.missing_references


@pytest.mark.parametrize("written", [[], None, "", [""], ["[]"], "[]", [None]])
def test_an_empty_id_list_is_readable(written: object) -> None:
    assert read_answer({"NonExistMediaIds": written}) == Answer()


def test_an_unreadable_id_does_not_affect_the_others() -> None:
    answer = read_answer({"NonExistMediaIds": [{"x": 1}, "a", ["b"], True]})

    assert {"a", "b"} <= answer.missing
    assert answer.unreadable == ("NonExistMediaIds",)


def test_the_outer_id_of_an_element_is_its_key() -> None:
    element = {"MediaId": " outer ", "MediaInfo": {"MediaId": "inner"}, "MezzanineInfo": {"MediaId": "innermost"}}

    assert read(element).media_id == "outer"


def test_an_inner_id_is_used_if_the_outer_one_is_missing() -> None:
    for outer in ({}, {"MediaId": ""}, {"MediaId": None}):
        assert read_answer({"MediaInfos": [outer | {"MediaInfo": {"MediaId": "inner"}}]}).media[0].media_id == "inner"
        assert read_answer({"MediaInfos": [outer | {"MezzanineInfo": {"MediaId": "last"}}]}).media[0].media_id == "last"


def test_elements_are_matched_by_id_in_any_order() -> None:
    elements = [{"MediaId": name, "MediaInfo": {"Title": name}} for name in "cab"]

    assert {media.media_id: media.title for media in read_answer({"MediaInfos": elements}).media} == {"a": "a", "b": "b", "c": "c"}


def test_a_reference_id_is_read_from_its_asset_or_from_the_missing_ones() -> None:
    assert media_info(ReferenceId=" 123-123 ").reference_id == "123-123"
    assert read_answer({"NonExistReferenceIds": ["123-123"]}).missing_references == {"123-123"}


def test_a_forbidden_id_is_not_a_missing_id() -> None:
    answer = read_answer({"ForbiddenMediaIds": ["a"], "NonExistMediaIds": ["b"]})

    assert answer.forbidden == {"a"}
    assert answer.missing == {"b"}


# Parts of an element (vod-protocol 7.16, 7.22)


@pytest.mark.parametrize("nothing", [{}, {"VideoStreamList": None}, {"VideoStreamList": []}, {"VideoStreamList": ""}])
def test_absent_null_and_empty_lists_are_equal(nothing: dict[str, Any]) -> None:
    media = read({"MezzanineInfo": {"Duration": "3", "Width": 0} | nothing, "PlayInfoList": None})

    assert media.video_streams == ()
    assert media.play_infos == ()
    assert media.unreadable == ()
    assert media.is_analysed


@pytest.mark.parametrize(
    "nothing", [{}, {"MezzanineInfo": None}, {"MezzanineInfo": {}}, {"MezzanineInfo": []}, {"MezzanineInfo": ""}]
)
def test_an_asset_without_a_source_file_is_not_analysed(nothing: dict[str, Any]) -> None:
    media = read(nothing | {"MediaInfo": {"Status": "Uploading"}})

    assert media.mezzanine is None
    assert media.unreadable == ()
    assert not media.is_analysed


@pytest.mark.parametrize("wrong", ["text", 5, [1], True])
def test_a_part_of_another_type_is_listed_as_unreadable(wrong: object) -> None:
    media = read({"MediaInfo": wrong, "MezzanineInfo": wrong, "PlayInfoList": {"a": wrong}})

    assert media.unreadable == ("MediaInfo", "MezzanineInfo", "PlayInfoList")


def test_undocumented_fields_are_kept_in_raw() -> None:
    element = {"MediaId": "m", "New": {"deep": [1]}, "PlayInfoList": [{"JobId": "j", "PreprocessStatus": "Done"}]}

    assert read(element).raw == element


def test_signatures_are_removed_from_every_url() -> None:
    signed = "http://a.example.org/x?auth_key=1764003600-0-0-aa&v=1"

    media = read(
        {
            "MediaInfo": {"CoverURL": signed},
            "MezzanineInfo": {"FileURL": signed},
            "PlayInfoList": [{"JobId": "j", "PlayURL": signed}],
        }
    )

    assert media.cover_url == media.play_infos[0].play_url == "http://a.example.org/x?v=1"
    assert media.mezzanine == Mezzanine(file_url="http://a.example.org/x?v=1")
    assert "auth_key" not in json.dumps(media.raw)
