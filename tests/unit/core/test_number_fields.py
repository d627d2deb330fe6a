"""Numbers in VOD's answers: every form in which they are sent, their ranges and their rounding."""

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
from worker.core.media import AudioStream, PlayInfo, VideoStream

# Forms of a number (vod-protocol 7.1)


@pytest.mark.parametrize("written", [7864320, "7864320", 7864320.0, "7864320.0", " 7864320\n", "+7864320", "7.86432e6"])
def test_an_integer_is_read_from_a_number_or_a_text(written: object) -> None:
    assert mezzanine(Size=written).size == 7864320


@pytest.mark.parametrize("written", [61.5, "61.5", "61.500", " 61.5 ", "615e-1", "61.5000004"])
def test_a_decimal_is_read_from_a_number_or_a_text(written: object) -> None:
    assert str(mezzanine(Duration=written).duration) == "61.500000"


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
def test_a_value_that_is_not_a_number_makes_only_its_field_unreadable(field: str, written: object) -> None:
    assert unreadable_play_fields(**{field: written}) == (field,)


def test_nan_and_infinity_are_not_numbers() -> None:
    media = read({"PlayInfoList": [{"JobId": "j", "Duration": float("nan"), "Size": float("inf"), "Fps": "nan"}]})

    assert media.play_infos == (PlayInfo(job_id="j"),)
    assert media.raw["PlayInfoList"][0]["Duration"] is None


def test_a_number_with_a_fraction_is_not_an_integer() -> None:
    assert unreadable_play_fields(Size="44100.5", Width=1.5) == ("Width", "Size")


# Start times, durations, rates (vod-protocol 7.5 to 7.8)


@pytest.mark.parametrize(
    ("written", "seconds"), [("0.000000", "0.000000"), ("-0.046440", "-0.046440"), ("0.042000", "0.042000"), (0, "0.000000")]
)
def test_a_start_time_is_an_offset_in_seconds_and_can_be_negative(written: object, seconds: str) -> None:
    assert str(video_stream(StartTime=written).start_time) == seconds
    assert str(audio_stream(StartTime=written).start_time) == seconds


def test_a_start_time_that_is_a_date_is_a_time_and_not_an_offset() -> None:
    media = read({"MezzanineInfo": {"VideoStreamList": [{"Index": "1", "StartTime": "2017-01-11T12:00:00Z"}]}})

    assert media.video_streams == (VideoStream(stream_index="1", start_at=datetime(2017, 1, 11, 12, tzinfo=UTC)),)
    assert media.unreadable == ()
    assert media.raw["MezzanineInfo"]["VideoStreamList"][0]["StartTime"] == "2017-01-11T12:00:00Z"


@pytest.mark.parametrize("written", ["N/A", "0000-00-00T00:00:00Z", [1], {"x": 1}, True])
def test_a_start_time_that_is_neither_is_unreadable_once(written: object) -> None:
    media = read({"MezzanineInfo": {"AudioStreamList": [{"Index": "1", "StartTime": written}]}})

    assert media.audio_streams == (AudioStream(stream_index="1"),)
    assert media.unreadable == ("MezzanineInfo.AudioStreamList[0].StartTime",)


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
def test_decimals_are_rounded_half_to_even_to_six_places(written: object, stored: str) -> None:
    assert str(mezzanine(Duration=written).duration) == stored


@pytest.mark.parametrize("written", [10**12, "1000000000000", -(10**12), "1e12", "999999999999.9999999", 1e300, "1e999", 10**30])
def test_decimals_too_large_for_the_column_are_unreadable(written: object) -> None:
    assert unreadable_play_fields(Duration=written) == ("Duration",)


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
def test_frame_rates_are_read_from_decimals_and_fractions(written: object, rate: str) -> None:
    stream = video_stream(Fps=written, AvgFPS=written)

    assert (str(stream.fps), str(stream.avg_fps)) == (rate, rate)
    assert str(mezzanine(Fps=written).fps) == str(play_info(Fps=written).fps) == rate


@pytest.mark.parametrize("written", ["0/0", "0.0/0", "", " ", None])
def test_an_unknown_frame_rate_is_none_and_readable(written: object) -> None:
    assert video_stream(Fps=written, AvgFPS=written) == VideoStream(stream_index="0")


@pytest.mark.parametrize("written", ["25/0", "a/b", "/", "1/", "1e99/1e-99", "N/A"])
def test_an_impossible_frame_rate_is_unreadable(written: object) -> None:
    assert unreadable_play_fields(Fps=written) == ("Fps",)


@pytest.mark.parametrize(
    ("written", "kbps"), [("771.2280", "771.228000"), ("5413.24", "5413.240000"), ("500", "500.000000"), (687, "687.000000")]
)
def test_bitrates_are_decimals_in_kbps(written: object, kbps: str) -> None:
    for holder in (mezzanine, play_info, audio_stream, video_stream):
        assert str(holder(Bitrate=written).bitrate) == kbps


# Integers (vod-protocol 7.12, 7.13, 7.25, 7.26, 7.29)


def test_frame_counts_can_be_zero_or_missing() -> None:
    assert video_stream(NumFrames="0", HasBFrames="2").num_frames == 0
    assert video_stream(NumFrames="0", HasBFrames="2").has_b_frames == 2
    assert video_stream() == VideoStream(stream_index="0")


def test_the_sample_rate_is_read_under_both_spellings() -> None:
    assert audio_stream(SampleRate="44100").sample_rate == 44100
    assert audio_stream(Samplerate="48000").sample_rate == 48000
    assert audio_stream(SampleRate="44100", Samplerate="48000").sample_rate == 44100
    assert audio_stream(SampleRate="", Samplerate="48000").sample_rate == 48000


@pytest.mark.parametrize(
    ("written", "cate_id"), [(0, 0), ("0", 0), (78111112222, 78111112222), ("781111", 781111), (-1, -1), (None, None)]
)
def test_a_category_id_can_exceed_32_bits_and_zero_is_kept(written: object, cate_id: int | None) -> None:
    assert media_info(CateId=written).cate_id == cate_id


@pytest.mark.parametrize("size", [2**31, 2**53 + 1, 2**63 - 1])
def test_sizes_can_exceed_32_bits(size: int) -> None:
    assert mezzanine(Size=size).size == mezzanine(Size=str(size)).size == play_info(Size=size).size == size


@pytest.mark.parametrize("size", [2**63, -(2**63) - 1, 2**64, 10**400, "1e999", 1e30])
def test_sizes_beyond_64_bits_are_unreadable(size: object) -> None:
    assert unreadable_play_fields(Size=size) == ("Size",)


@pytest.mark.parametrize("field", ["Width", "Height", "BitDepth"])
def test_widths_heights_and_bit_depths_beyond_32_bits_are_unreadable(field: str) -> None:
    assert str(2**31 - 1) in str(play_info(**{field: 2**31 - 1}))
    assert unreadable_play_fields(**{field: 2**31}) == (field,)


def test_rotation_is_stored_without_swapping_width_and_height() -> None:
    stream = video_stream(Rotate="90", Width="568", Height="320")

    assert (stream.rotate, stream.width, stream.height) == (90, 568, 320)
