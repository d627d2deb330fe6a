"""Texts, booleans, tags and times in VOD's answers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.unit.core.answers import (
    audio_stream,
    media_info,
    mezzanine,
    play_info,
    read,
    unreadable_play_fields,
    video_stream,
)
from worker.core.media import Media, Mezzanine, PlayInfo
from worker.core.normalise import read_video_info

# Texts (vod-protocol 7.2, 7.9 to 7.11, 7.14, 7.20, 7.21, 7.27)


def test_surrounding_white_space_is_removed_and_kept_in_raw() -> None:
    media = read({"MezzanineInfo": {"FileName": " demo film.mp4\n"}, "PlayInfoList": [{"JobId": "j\n"}]})

    assert media.mezzanine == Mezzanine(file_name="demo film.mp4")
    assert media.play_infos == (PlayInfo(job_id="j"),)
    assert media.raw["MezzanineInfo"]["FileName"] == " demo film.mp4\n"


@pytest.mark.parametrize(
    ("written", "text"), [(0, "0"), (1.0, "1.0"), (2.5, "2.5"), (True, "true"), (False, "false"), ("\U0001f3ac", "\U0001f3ac")]
)
def test_numbers_and_booleans_in_a_text_field_become_their_json_text(written: object, text: str) -> None:
    assert media_info(Title=written).title == text
    assert play_info(NarrowBandType=written, JobType=written).job_type == text


@pytest.mark.parametrize("written", [["a"], {"a": 1}, [], {}])
def test_a_list_or_an_object_in_a_text_field_is_unreadable(written: object) -> None:
    assert media_info(Title=written).unreadable == ("MediaInfo.Title",)


def test_time_bases_are_text() -> None:
    stream = audio_stream(Timebase="1/15360", CodecTimeBase="968897/114984000")

    assert (stream.time_base, stream.codec_time_base) == ("1/15360", "968897/114984000")
    assert video_stream(Timebase="0.000000").time_base == "0.000000"


def test_aspect_ratios_are_text() -> None:
    stream = video_stream(Sar="81:256", Dar="0:1")

    assert (stream.sar, stream.dar) == ("81:256", "0:1")


def test_layouts_tags_and_languages_accept_unknown_values() -> None:
    stream = audio_stream(ChannelLayout="5.1(side)", CodecTagString="[0][0][0][0]", Lang="tlh")

    assert (stream.channel_layout, stream.codec_tag_string, stream.lang) == ("5.1(side)", "[0][0][0][0]", "tlh")


def test_an_empty_text_is_none_in_every_field() -> None:
    blank = dict.fromkeys(["Title", "Description", "CateId", "Tags", "CoverURL", "CreationTime", "UserData", "Snapshots"], " \n")

    assert media_info(**blank) == Media(media_id="m", raw={"MediaId": "m", "MediaInfo": blank})
    assert mezzanine(FileMD5="", Size="", Duration="", CreationTime="") == Mezzanine()
    assert play_info(Encrypt="", BitDepth="", JobType="") == PlayInfo(job_id="j")


@pytest.mark.parametrize("status", ["Checking", "ProduceFail", "Something new"])
def test_a_status_can_be_an_unknown_word(status: str) -> None:
    assert media_info(Status=status).status == status
    assert mezzanine(Status=status).status == status


@pytest.mark.parametrize("status", ["Normal", "Blocked", "Init"])
def test_an_audit_status_can_be_an_undocumented_word(status: str) -> None:
    info = read_video_info({"Video": {"VideoId": "v", "AuditStatus": status}})

    assert info is not None
    assert info.audit_status == status


@pytest.mark.parametrize("hdr", ["HDR", "HDR10", "HLG", "DolbyVision", "HDRVivid", "SDR+"])
def test_hdr_types_are_text_and_none_for_sdr(hdr: str) -> None:
    assert play_info(HDRType=hdr).hdr_type == video_stream(HDRType=hdr).hdr_type == hdr
    assert play_info(HDRType="").hdr_type is None


def test_user_data_that_is_an_object_becomes_compact_json() -> None:
    assert media_info(UserData={"b": [1, "x"], "a": "\xe9"}).user_data == '{"a":"\xe9","b":[1,"x"]}'
    assert media_info(UserData=["a"]).unreadable == ("MediaInfo.UserData",)


# Booleans and tags (vod-protocol 7.23, 7.24)


@pytest.mark.parametrize(
    ("written", "encrypt"),
    [
        (0, False),
        (1, True),
        ("0", False),
        ("1", True),
        (False, False),
        (True, True),
        ("true", True),
        ("False", False),
        (1.0, True),
        (None, None),
    ],
)
def test_encrypt_is_read_in_every_form(written: object, encrypt: bool | None) -> None:
    assert play_info(Encrypt=written).encrypt is encrypt


@pytest.mark.parametrize("written", [2, "yes", -1, [], {}])
def test_encrypt_in_another_form_is_unreadable(written: object) -> None:
    assert unreadable_play_fields(Encrypt=written) == ("Encrypt",)


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ("tag1, tag2", ("tag1", "tag2")),
        ("Tag 1,Tag 2", ("Tag 1", "Tag 2")),
        (" a ,, b,", ("a", "b")),
        ("\u6e2f\u53e3", ("\u6e2f\u53e3",)),
        (["a", "b, c", None], ("a", "b", "c")),
        (7, ("7",)),
        ("", None),
        (" , ", None),
        ([], None),
        (None, None),
    ],
)
def test_tags_are_split_at_commas(written: object, tags: tuple[str, ...] | None) -> None:
    media = media_info(Tags=written)

    assert media.tags == tags
    assert media.unreadable == ()


def test_tags_of_another_type_are_unreadable() -> None:
    assert media_info(Tags={"a": 1}).unreadable == media_info(Tags=[["a"]]).unreadable == ("MediaInfo.Tags",)


# Times (vod-protocol 7.30)


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2017-11-14T09:15:50Z", datetime(2017, 11, 14, 9, 15, 50, tzinfo=UTC)),
        ("2022-04-18T07:37:15Z\n", datetime(2022, 4, 18, 7, 37, 15, tzinfo=UTC)),
        ("2025-11-24T16:00:01:540Z", datetime(2025, 11, 24, 16, 0, 1, 540_000, tzinfo=UTC)),
        ("2025-11-24T16:00:01.5Z", datetime(2025, 11, 24, 16, 0, 1, 500_000, tzinfo=UTC)),
        ("2025-11-24T16:00:01.123456789Z", datetime(2025, 11, 24, 16, 0, 1, 123_456, tzinfo=UTC)),
        ("2025-11-25T00:00:05+08:00", datetime(2025, 11, 24, 16, 0, 5, tzinfo=UTC)),
        ("2025-11-24T11:30:05-0430", datetime(2025, 11, 24, 16, 0, 5, tzinfo=UTC)),
        ("2025-11-24 16:00:05", datetime(2025, 11, 24, 16, 0, 5, tzinfo=UTC)),
        ("1000-01-01T00:00:00Z", datetime(1000, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_every_form(written: str, time: datetime) -> None:
    media = media_info(CreationTime=written, ModificationTime=written, RestoreExpiration=written)

    assert (media.created_at, media.modified_at, media.restore_expiration) == (time, time, time)
    assert play_info(CreationTime=written).created_at == mezzanine(CreationTime=written).created_at == time


@pytest.mark.parametrize(
    "written",
    [
        "2017-02-30T00:00:00Z",
        "2017-01-01T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "0999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "1000-01-01T00:00:00+01:00",
        "2017-01-01T00:00:00+99:99",
        "2017-W46-2T09:15:50Z",
        "2017-11-14",
        "tomorrow",
        1510650950,
        True,
        [],
    ],
)
def test_an_impossible_time_is_unreadable(written: object) -> None:
    media = media_info(CreationTime=written)

    assert media.created_at is None
    assert media.unreadable == ("MediaInfo.CreationTime",)
