"""Reading VOD's answers, rule by rule (the numbers are those of vod-protocol 7)."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from worker.core.media import Answer, AudioStream, Media, Mezzanine, PlayInfo, VideoInfo, VideoStream
from worker.core.normalise import content_hash, read_answer, read_media, read_video_info

DATA = Path(__file__).parent / "data"

#: The response skeleton of vod-protocol 7.
SKELETON: dict[str, Any] = json.loads((DATA / "skeleton.json").read_text())

#: Every documented field of BatchGetMediaInfos once, with the quirks of the vendor's sample.
FULL: dict[str, Any] = json.loads((DATA / "full_answer.json").read_text())


def read(element: dict[str, Any]) -> Media:
    media = read_media({"MediaId": "m"} | element)
    assert media is not None
    return media


def with_info(**fields: Any) -> Media:
    return read({"MediaInfo": fields})


def source_of(**fields: Any) -> Mezzanine:
    """The source file that has these fields, all of them readable."""
    media = read({"MezzanineInfo": fields})
    assert media.unreadable == ()
    assert media.mezzanine is not None
    return media.mezzanine


def video_of(**fields: Any) -> VideoStream:
    media = read({"MezzanineInfo": {"VideoStreamList": [{"Index": "0"} | fields]}})
    assert media.unreadable == ()
    return media.video_streams[0]


def audio_of(**fields: Any) -> AudioStream:
    media = read({"MezzanineInfo": {"AudioStreamList": [{"Index": "0"} | fields]}})
    assert media.unreadable == ()
    return media.audio_streams[0]


def play_of(**fields: Any) -> PlayInfo:
    media = read({"PlayInfoList": [{"JobId": "j"} | fields]})
    assert media.unreadable == ()
    return media.play_infos[0]


def unreadable_play(**fields: Any) -> tuple[str, ...]:
    """The unreadable paths of a stream with these fields, without its own path."""
    media = read({"PlayInfoList": [{"JobId": "j"} | fields]})
    assert media.play_infos == (PlayInfo(job_id="j"),)
    return tuple(path.removeprefix("PlayInfoList[0].") for path in media.unreadable)


# Whole answers


def test_every_documented_field_stands_in_its_place():
    answer = read_answer(FULL)

    element = FULL["MediaInfos"][0]
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
                start_time=None,
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
        unreadable=("MezzanineInfo.AudioStreamList[0].StartTime",),
    )
    assert media.raw == element | {"MediaInfo": element["MediaInfo"] | {"Snapshots": list(media.snapshots or ())}}


def test_the_skeleton_of_the_protocol_is_read_whole():
    answer = read_answer(SKELETON)

    media = answer.media[0]
    assert (answer.request_id, answer.missing) == ("R-1", {"dead0000000000000000000000000001"})
    assert media.unreadable == ()
    assert media.analysed
    assert media.cover_url == "http://img.example.org/c.jpg"
    assert media.snapshots == ("http://img.example.org/1.jpg",)
    assert media.video_streams[0].fps == Decimal("29.970030")
    assert media.video_streams[0].start_time == Decimal("-0.04644")
    assert media.play_infos[0].encrypt is False


@pytest.mark.parametrize("body", [None, [], "", "text", 5, True])
def test_an_answer_that_is_no_object_says_nothing(body):
    assert read_answer(body) == Answer(unreadable=("$",))


def test_an_empty_answer_says_nothing_and_is_no_fault():
    assert read_answer({"RequestId": "R", "MediaInfos": None, "NonExistMediaIds": ""}) == Answer(request_id="R")


def test_a_list_that_is_none_is_listed():
    answer = read_answer({"MediaInfos": "x", "ForbiddenMediaIds": {"a": 1}})

    assert answer.unreadable == ("MediaInfos", "ForbiddenMediaIds")


def test_an_element_that_cannot_be_read_costs_that_element_only():
    elements = [None, {"MediaId": "a"}, 5, {}, {"MediaId": "b" * 65}, {"MediaId": ["x"]}, {"MediaId": "c"}]

    answer = read_answer({"MediaInfos": elements})

    assert [media.media_id for media in answer.media] == ["a", "c"]
    assert answer.unreadable == ("MediaInfos[0]", "MediaInfos[2]", "MediaInfos[3]", "MediaInfos[4]", "MediaInfos[5]")


def test_of_two_elements_with_one_id_the_richer_stays_and_of_equals_the_first():
    poor = {"MediaId": "a", "MediaInfo": {"Title": "poor"}}
    rich = {"MediaId": "a", "MediaInfo": {"Title": "rich"}, "MezzanineInfo": {"Duration": "1"}}
    also = {"MediaId": "a", "MediaInfo": {"Title": "also"}, "MezzanineInfo": {"Duration": "2"}}

    for elements in ([poor, rich, also], [rich, poor, also]):
        assert [media.title for media in read_answer({"MediaInfos": elements}).media] == ["rich"]


# The thirty rules


@pytest.mark.parametrize("written", [7864320, "7864320", 7864320.0, "7864320.0", " 7864320\n", "+7864320", "7.86432e6"])
def test_rule_1_an_integer_comes_as_number_or_text(written):
    assert source_of(Size=written).size == 7864320


@pytest.mark.parametrize("written", [61.5, "61.5", "61.500", " 61.5 ", "615e-1", "61.5000004"])
def test_rule_1_a_decimal_comes_as_number_or_text(written):
    assert str(source_of(Duration=written).duration) == "61.500000"


@pytest.mark.parametrize(
    "written",
    [
        "N/A",
        "NaN",
        "inf",
        "-Infinity",
        "1_000",
        "\u0661",
        "0x10",
        "1,5",
        "5 MB",
        True,
        False,
        [1],
        {"a": 1},
        "9" * 200,
        "--1",
        ".",
        "1/2/3",
    ],
)
@pytest.mark.parametrize("field", ["Size", "Width", "Duration", "Bitrate", "Fps", "BitDepth"])
def test_rule_1_what_is_no_number_costs_that_field_only(field, written):
    assert unreadable_play(**{field: written}) == (field,)


def test_rule_1_nan_and_infinity_never_become_numbers():
    media = read({"PlayInfoList": [{"JobId": "j", "Duration": float("nan"), "Size": float("inf"), "Fps": "nan"}]})

    assert media.play_infos == (PlayInfo(job_id="j"),)
    assert media.raw["PlayInfoList"][0]["Duration"] is None


def test_rule_1_a_fraction_is_no_integer():
    assert unreadable_play(Size="44100.5", Width=1.5) == ("Width", "Size")


def test_rule_2_surrounding_white_space_is_taken_off_and_kept_in_raw():
    media = read({"MezzanineInfo": {"FileName": " demo film.mp4\n"}, "PlayInfoList": [{"JobId": "j\n"}]})

    assert media.mezzanine == Mezzanine(file_name="demo film.mp4")
    assert media.play_infos == (PlayInfo(job_id="j"),)
    assert media.raw["MezzanineInfo"]["FileName"] == " demo film.mp4\n"


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
def test_rule_3_id_lists_are_flattened(written):
    answer = read_answer({"NonExistMediaIds": written, "ForbiddenMediaIds": written, "NonExistReferenceIds": written})

    assert {"a", "b"} <= answer.missing <= {"a", "b", "..."}
    assert answer.missing == answer.forbidden == answer.missing_references


@pytest.mark.parametrize("written", [[], None, "", [""], ["[]"], "[]", [None]])
def test_rule_3_an_empty_id_list_is_no_fault(written):
    assert read_answer({"NonExistMediaIds": written}) == Answer()


def test_rule_3_an_id_that_cannot_be_read_costs_that_id_only():
    answer = read_answer({"NonExistMediaIds": [{"x": 1}, "a", ["b"], True]})

    assert {"a", "b"} <= answer.missing
    assert answer.unreadable == ("NonExistMediaIds",)


def test_rule_3_snapshots_that_are_no_valid_json_stay_text():
    broken = '["http://a.example.org/1.jpg",...]'

    assert with_info(Snapshots=[broken]).snapshots == (broken,)
    assert with_info(Snapshots=broken).snapshots == (broken,)


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
def test_rule_4_snapshots_come_in_all_shapes(written):
    media = with_info(Snapshots=written)

    assert media.snapshots == URLS
    assert media.unreadable == ()


@pytest.mark.parametrize(
    ("written", "snapshots"),
    [([], ()), ("[]", ()), (None, None), ("", None), (" ", None), ({"Snapshot": []}, ()), ({"Snapshot": ""}, None)],
)
def test_rule_4_no_snapshots_differ_from_snapshots_not_said(written, snapshots):
    media = with_info(Snapshots=written)

    assert media.snapshots == snapshots
    assert media.unreadable == ()


def test_rule_4_snapshots_of_another_kind_are_listed():
    media = with_info(Snapshots=[URLS[1], {"Url": "x"}])

    assert media.snapshots == URLS[1:]
    assert media.unreadable == ("MediaInfo.Snapshots",)
    assert with_info(Snapshots={"Url": "x"}).snapshots is None


def test_rule_4_json_inside_snapshots_is_made_storable_and_loses_its_signatures():
    inner = json.dumps(["http://a/1.jpg?auth_key=1&x=\0", "b"])

    assert with_info(Snapshots=[inner]).snapshots == ("http://a/1.jpg?x=\ufffd", "b")


@pytest.mark.parametrize(
    ("written", "seconds"), [("0.000000", "0.000000"), ("-0.046440", "-0.046440"), ("0.042000", "0.042000"), (0, "0.000000")]
)
def test_rule_5_a_start_time_is_an_offset_in_seconds_and_may_be_negative(written, seconds):
    assert str(video_of(StartTime=written).start_time) == seconds
    assert str(audio_of(StartTime=written).start_time) == seconds


def test_rule_5_a_start_time_that_is_a_date_stays_in_raw_only():
    media = read({"MezzanineInfo": {"VideoStreamList": [{"Index": "1", "StartTime": "2017-01-11T12:00:00Z"}]}})

    assert media.video_streams == (VideoStream(stream_index="1"),)
    assert media.unreadable == ("MezzanineInfo.VideoStreamList[0].StartTime",)
    assert media.raw["MezzanineInfo"]["VideoStreamList"][0]["StartTime"] == "2017-01-11T12:00:00Z"


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("42.4930", "42.493000"),
        (0.1, "0.100000"),
        (61.027, "61.027000"),
        ("3.2275745", "3.227574"),
        ("3.2275755", "3.227576"),
        ("-0.0", "0.000000"),
        ("1e-30", "0.000000"),
        ("999999999999.999999", "999999999999.999999"),
        (12345678901, "12345678901.000000"),
    ],
)
def test_rule_6_decimals_are_exact_to_six_places_half_to_even(written, stored):
    assert str(source_of(Duration=written).duration) == stored


@pytest.mark.parametrize("written", [10**12, "1000000000000", -(10**12), "1e12", "999999999999.9999999", 1e300, "1e999", 10**30])
def test_rule_6_decimals_too_large_for_the_column_are_unreadable(written):
    assert unreadable_play(Duration=written) == ("Duration",)


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("25", "25.000000"),
        ("25.0000", "25.000000"),
        (25, "25.000000"),
        (29.97, "29.970000"),
        ("59.337578", "59.337578"),
        ("24000/1001", "23.976024"),
        ("30000/1001", "29.970030"),
        (" 30000 / 1001 ", "29.970030"),
        ("50/2", "25.000000"),
        ("0/1", "0.000000"),
    ],
)
def test_rule_7_frame_rates_are_decimals_or_fractions(written, rate):
    stream = video_of(Fps=written, AvgFPS=written)

    assert (str(stream.fps), str(stream.avg_fps)) == (rate, rate)
    assert str(source_of(Fps=written).fps) == str(play_of(Fps=written).fps) == rate


@pytest.mark.parametrize("written", ["0/0", "0.0/0", "", " ", None])
def test_rule_7_an_unknown_frame_rate_is_none_and_no_fault(written):
    assert video_of(Fps=written, AvgFPS=written) == VideoStream(stream_index="0")


@pytest.mark.parametrize("written", ["25/0", "a/b", "/", "1/", "1e99/1e-99", "N/A"])
def test_rule_7_an_impossible_frame_rate_is_unreadable(written):
    assert unreadable_play(Fps=written) == ("Fps",)


@pytest.mark.parametrize(
    ("written", "kbps"), [("771.2280", "771.228000"), ("5413.24", "5413.240000"), ("500", "500.000000"), (687, "687.000000")]
)
def test_rule_8_bitrates_are_decimals_in_kbps(written, kbps):
    for holder in (source_of, play_of, audio_of, video_of):
        assert str(holder(Bitrate=written).bitrate) == kbps


def test_rule_9_time_bases_are_text():
    stream = audio_of(Timebase="1/15360", CodecTimeBase="968897/114984000")

    assert (stream.time_base, stream.codec_time_base) == ("1/15360", "968897/114984000")
    assert video_of(Timebase="0.000000").time_base == "0.000000"


def test_rule_10_aspect_ratios_are_text():
    stream = video_of(Sar="81:256", Dar="0:1")

    assert (stream.sar, stream.dar) == ("81:256", "0:1")


def test_rule_11_no_vocabulary_is_closed():
    stream = audio_of(ChannelLayout="5.1(side)", CodecTagString="[0][0][0][0]", Lang="tlh")

    assert (stream.channel_layout, stream.codec_tag_string, stream.lang) == ("5.1(side)", "[0][0][0][0]", "tlh")


def test_rule_12_frame_counts_may_be_zero_or_missing():
    assert video_of(NumFrames="0", HasBFrames="2").num_frames == 0
    assert video_of(NumFrames="0", HasBFrames="2").has_b_frames == 2
    assert video_of() == VideoStream(stream_index="0")


def test_rule_13_the_sample_rate_has_two_spellings():
    assert audio_of(SampleRate="44100").sample_rate == 44100
    assert audio_of(Samplerate="48000").sample_rate == 48000
    assert audio_of(SampleRate="44100", Samplerate="48000").sample_rate == 44100
    assert audio_of(SampleRate="", Samplerate="48000").sample_rate == 48000


def test_rule_14_empty_text_stands_for_none_everywhere():
    blank = dict.fromkeys(["Title", "Description", "CateId", "Tags", "CoverURL", "CreationTime", "UserData", "Snapshots"], " \n")

    assert with_info(**blank) == Media(media_id="m", raw={"MediaId": "m", "MediaInfo": blank})
    assert source_of(FileMD5="", Size="", Duration="", CreationTime="") == Mezzanine()
    assert play_of(Encrypt="", BitDepth="", JobType="") == PlayInfo(job_id="j")


def test_rule_15_the_outer_id_is_the_key():
    element = {"MediaId": " outer ", "MediaInfo": {"MediaId": "inner"}, "MezzanineInfo": {"MediaId": "innermost"}}

    assert read(element).media_id == "outer"


def test_rule_15_an_inner_id_serves_where_the_outer_one_is_missing():
    for outer in ({}, {"MediaId": ""}, {"MediaId": None}):
        assert read_answer({"MediaInfos": [outer | {"MediaInfo": {"MediaId": "inner"}}]}).media[0].media_id == "inner"
        assert read_answer({"MediaInfos": [outer | {"MezzanineInfo": {"MediaId": "last"}}]}).media[0].media_id == "last"


@pytest.mark.parametrize("nothing", [{}, {"VideoStreamList": None}, {"VideoStreamList": []}, {"VideoStreamList": ""}])
def test_rule_16_absent_null_and_empty_lists_are_alike(nothing):
    media = read({"MezzanineInfo": {"Duration": "3", "Width": 0} | nothing, "PlayInfoList": None})

    assert media.video_streams == ()
    assert media.play_infos == ()
    assert media.unreadable == ()
    assert media.analysed


@pytest.mark.parametrize(
    "nothing", [{}, {"MezzanineInfo": None}, {"MezzanineInfo": {}}, {"MezzanineInfo": []}, {"MezzanineInfo": ""}]
)
def test_rule_16_a_media_that_is_not_analysed_is_read_and_known_as_such(nothing):
    media = read(nothing | {"MediaInfo": {"Status": "Uploading"}})

    assert media.mezzanine is None
    assert media.unreadable == ()
    assert not media.analysed


@pytest.mark.parametrize("wrong", ["text", 5, [1], True])
def test_rule_16_a_part_of_another_kind_is_listed(wrong):
    media = read({"MediaInfo": wrong, "MezzanineInfo": wrong, "PlayInfoList": {"a": wrong}})

    assert media.unreadable == ("MediaInfo", "MezzanineInfo", "PlayInfoList")


def test_rule_17_media_are_known_by_id_in_any_order():
    elements = [{"MediaId": name, "MediaInfo": {"Title": name}} for name in "cab"]

    assert {media.media_id: media.title for media in read_answer({"MediaInfos": elements}).media} == {"a": "a", "b": "b", "c": "c"}


def test_rule_18_reference_ids_come_back_with_their_media():
    assert with_info(ReferenceId=" 123-123 ").reference_id == "123-123"
    assert read_answer({"NonExistReferenceIds": ["123-123"]}).missing_references == {"123-123"}


def test_rule_19_forbidden_is_not_missing():
    answer = read_answer({"ForbiddenMediaIds": ["a"], "NonExistMediaIds": ["b"]})

    assert (answer.forbidden, answer.missing) == ({"a"}, {"b"})


@pytest.mark.parametrize("status", ["Checking", "ProduceFail", "Something new"])
def test_rule_20_any_status_is_text(status):
    assert with_info(Status=status).status == status
    assert source_of(Status=status).status == status


@pytest.mark.parametrize("status", ["Normal", "Blocked", "Init"])
def test_rule_21_any_audit_status_is_text(status):
    info = read_video_info({"Video": {"VideoId": "v", "AuditStatus": status}})

    assert info is not None
    assert info.audit_status == status


def test_rule_22_undocumented_fields_stay_in_raw():
    element = {"MediaId": "m", "New": {"deep": [1]}, "PlayInfoList": [{"JobId": "j", "PreprocessStatus": "Done"}]}

    assert read(element).raw == element


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
def test_rule_23_encrypt_is_a_boolean_in_every_form(written, encrypt):
    assert play_of(Encrypt=written).encrypt is encrypt


@pytest.mark.parametrize("written", [2, "yes", -1, [], {}])
def test_rule_23_encrypt_in_another_form_is_unreadable(written):
    assert unreadable_play(Encrypt=written) == ("Encrypt",)


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
def test_rule_24_tags_are_split_at_commas(written, tags):
    media = with_info(Tags=written)

    assert media.tags == tags
    assert media.unreadable == ()


def test_rule_24_tags_of_another_kind_are_unreadable():
    assert with_info(Tags={"a": 1}).unreadable == with_info(Tags=[["a"]]).unreadable == ("MediaInfo.Tags",)


@pytest.mark.parametrize(
    ("written", "cate_id"), [(0, 0), ("0", 0), (78111112222, 78111112222), ("781111", 781111), (-1, -1), (None, None)]
)
def test_rule_25_category_ids_are_long_and_zero_stays(written, cate_id):
    assert with_info(CateId=written).cate_id == cate_id


@pytest.mark.parametrize("size", [2**31, 2**53 + 1, 2**63 - 1])
def test_rule_26_sizes_go_beyond_32_bits(size):
    assert source_of(Size=size).size == source_of(Size=str(size)).size == play_of(Size=size).size == size


@pytest.mark.parametrize("size", [2**63, -(2**63) - 1, 2**64, 10**400, "1e999", 1e30])
def test_rule_26_sizes_beyond_64_bits_are_unreadable(size):
    assert unreadable_play(Size=size) == ("Size",)


@pytest.mark.parametrize("field", ["Width", "Height", "BitDepth"])
def test_rule_26_lengths_fit_32_bits(field):
    assert str(2**31 - 1) in str(play_of(**{field: 2**31 - 1}))
    assert unreadable_play(**{field: 2**31}) == (field,)


@pytest.mark.parametrize("hdr", ["HDR", "HDR10", "HLG", "DolbyVision", "HDRVivid", "SDR+"])
def test_rule_27_hdr_types_are_text_and_empty_for_sdr(hdr):
    assert play_of(HDRType=hdr).hdr_type == video_of(HDRType=hdr).hdr_type == hdr
    assert play_of(HDRType="").hdr_type is None


def test_rule_28_streams_are_known_by_their_job():
    newest = {"JobId": "j2", "Definition": "HD", "Format": "mp4", "Status": "Normal"}

    media = read({"PlayInfoList": [newest, newest | {"JobId": "j1", "Status": "Invisible"}]})

    assert [(play.job_id, play.status) for play in media.play_infos] == [("j2", "Normal"), ("j1", "Invisible")]


def test_rule_28_a_stream_without_a_key_of_its_own_costs_that_stream_only():
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


def test_rule_29_rotation_is_stored_and_nothing_is_swapped():
    stream = video_of(Rotate="90", Width="568", Height="320")

    assert (stream.rotate, stream.width, stream.height) == (90, 568, 320)


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
def test_rule_30_times_are_read_in_every_form(written, time):
    media = with_info(CreationTime=written, ModificationTime=written, RestoreExpiration=written)

    assert (media.created_at, media.modified_at, media.restore_expiration) == (time, time, time)
    assert play_of(CreationTime=written).created_at == source_of(CreationTime=written).created_at == time


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
def test_rule_30_an_impossible_time_is_unreadable(written):
    media = with_info(CreationTime=written)

    assert media.created_at is None
    assert media.unreadable == ("MediaInfo.CreationTime",)


# Texts


@pytest.mark.parametrize(
    ("written", "text"), [(0, "0"), (1.0, "1.0"), (2.5, "2.5"), (True, "true"), (False, "false"), ("\U0001f3ac", "\U0001f3ac")]
)
def test_a_text_takes_numbers_and_booleans_as_json_writes_them(written, text):
    assert with_info(Title=written).title == text
    assert play_of(NarrowBandType=written, JobType=written).job_type == text


@pytest.mark.parametrize("written", [["a"], {"a": 1}, [], {}])
def test_a_text_takes_neither_list_nor_object(written):
    assert with_info(Title=written).unreadable == ("MediaInfo.Title",)


def test_user_data_that_is_an_object_becomes_compact_json():
    assert with_info(UserData={"b": [1, "x"], "a": "\xe9"}).user_data == '{"a":"\xe9","b":[1,"x"]}'
    assert with_info(UserData=["a"]).unreadable == ("MediaInfo.UserData",)


def test_signatures_are_taken_out_of_every_url():
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


# GetVideoInfo


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
def test_both_shapes_of_get_video_info_say_the_same(video):
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


def test_get_video_info_lists_what_it_cannot_read():
    info = read_video_info({"Video": {"VideoId": "v", "Size": "big", "Snapshots": 5.5, "AuditStatus": []}})

    assert info is not None
    assert info.unreadable == ("AuditStatus", "Size")


@pytest.mark.parametrize("body", [None, [], {}, {"Video": None}, {"Video": []}, {"Video": {}}, {"Video": {"VideoId": "v" * 65}}])
def test_get_video_info_without_a_media_is_none(body):
    assert read_video_info(body) is None


# The content hash


def full_media(**changed: Any) -> Media:
    media = read_media(FULL["MediaInfos"][0] | changed)
    assert media is not None
    return media


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(inner) for inner in value] if isinstance(value, list) else value


def lists(element: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [element["PlayInfoList"], element["MezzanineInfo"]["AudioStreamList"], element["MezzanineInfo"]["VideoStreamList"]]


def several() -> dict[str, Any]:
    element = copy.deepcopy(FULL["MediaInfos"][0])
    for elements in lists(element):
        elements[0]["Fps"] = "none"
        elements += [elements[0] | {"JobId": "x", "Index": "7"}, elements[0] | {"JobId": "y", "Index": "8"}]
    return element


def test_the_content_hash_does_not_depend_on_any_order():
    element = several()
    other = reordered(element)
    for elements in lists(other):
        elements.insert(0, elements.pop())

    assert content_hash(read(element)) == content_hash(read(other))
    assert len(content_hash(read(element))) == 64


def test_the_content_hash_does_not_depend_on_signatures():
    def signed(key: str) -> Media:
        return read(
            {"MediaInfo": {"CoverURL": f"http://a/c.jpg?auth_key={key}", "Snapshots": [f'["http://a/1.jpg?x=1&Signature={key}"]']}}
        )

    assert content_hash(signed("1764003600-0-0-aa")) == content_hash(signed("1764009999-0-0-bb"))


def test_the_content_hash_changes_with_every_field_documented_or_not():
    hashes = {content_hash(full_media())}
    count = 1
    for part in ("MediaInfo", "MezzanineInfo"):
        for name in FULL["MediaInfos"][0][part]:
            hashes.add(content_hash(full_media(**{part: FULL["MediaInfos"][0][part] | {name: "changed"}})))
            count += 1
    for name in FULL["MediaInfos"][0]["PlayInfoList"][0]:
        hashes.add(content_hash(full_media(PlayInfoList=[FULL["MediaInfos"][0]["PlayInfoList"][0] | {name: "changed"}])))
        count += 1
    hashes.add(content_hash(full_media(New=1)))

    assert len(hashes) == count + 1


def test_the_content_hash_is_the_same_in_every_process():
    assert content_hash(read({"MediaInfo": {"Title": "x", "CateId": 1.5}})) == (
        "e5f71520bfc67e76882ff4a3625c2c84330fd646bcfde7181566b09c9c870be4"
    )
