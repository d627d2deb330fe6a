"""The emulated assets are repeatable, varied, and have the quirks of VOD."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.emulator.library.library import Library
from worker.emulator.library.media_ids import MediaIds
from worker.emulator.library.signed_urls import UrlSigner

NOW = 1_764_000_000.0
Element = dict[str, Any]


def words(text: str) -> list[str]:
    return text.split()


# vod-protocol 9.2 to 9.6
MEDIA_INFO = words("""
    MediaId Title Description Status CateId CateName Tags CoverURL Snapshots CreationTime ModificationTime StorageLocation
    StorageClass RestoreStatus RestoreExpiration DownloadSwitch TemplateGroupId AppId UserData ReferenceId
""")
MEZZANINE = words("""
    MediaId Status FileName FileURL FileMD5 CreationTime Size Width Height Duration Bitrate Fps AudioStreamList VideoStreamList
""")
AUDIO_STREAM = words("""
    Index CodecName CodecLongName CodecTag CodecTagString CodecTimeBase Timebase StartTime Duration Bitrate SampleRate SampleFmt
    Channels ChannelLayout NumFrames Lang
""")
VIDEO_STREAM = words("""
    Index CodecName CodecLongName CodecTag CodecTagString CodecTimeBase Timebase Profile Level PixFmt Width Height Rotate Sar Dar
    HasBFrames Fps AvgFPS NumFrames StartTime Duration Bitrate Lang HDRType
""")
PLAY_INFO = words("""
    JobId Status StreamType Format Definition Specification NarrowBandType Width Height Size Duration Bitrate Fps CodecName
    HDRType BitDepth Encrypt EncryptType EncryptMode PlayURL WatermarkId JobType JobExt TemplateId TemplateGroupId CreationTime
    ModificationTime
""")


def library(*, seed: int = 1, existing: int = 500, quirks: bool = True) -> Library:
    return Library(seed=seed, existing=existing, quirks=quirks)


@pytest.fixture(scope="module")
def elements() -> list[Element]:
    shelf = library()
    return [shelf.element(index, NOW, UrlSigner(NOW)) for index in range(500)]


@pytest.fixture(scope="module")
def plain() -> list[Element]:
    shelf = library(quirks=False)
    return [shelf.element(index, NOW) for index in range(500)]


def mezzanines(elements: list[Element]) -> list[Element]:
    return [element["MezzanineInfo"] for element in elements if "MezzanineInfo" in element]


def video_streams(elements: list[Element]) -> Iterator[Element]:
    for mezzanine in mezzanines(elements):
        yield from mezzanine.get("VideoStreamList", [])


def audio_streams(elements: list[Element]) -> Iterator[Element]:
    for mezzanine in mezzanines(elements):
        yield from mezzanine.get("AudioStreamList", [])


def play_infos(elements: list[Element]) -> Iterator[Element]:
    for element in elements:
        yield from element.get("PlayInfoList", [])


@given(seed=st.integers(), index=st.integers(0, 2**63 - 1))
def test_the_index_of_an_id_is_found(seed: int, index: int) -> None:
    identities = MediaIds(seed)

    media_id = identities.media_id(index)

    assert re.fullmatch("[0-9a-f]{32}", media_id)
    assert identities.index(media_id) == index


@given(st.one_of(st.text(max_size=40), st.from_regex("[0-9a-f]{32}", fullmatch=True)))
def test_a_foreign_id_has_no_index(media_id: str) -> None:
    assert MediaIds(1).index(media_id) is None


def test_an_id_of_another_seed_is_unknown() -> None:
    assert MediaIds(2).index(MediaIds(1).media_id(0)) is None


def test_every_third_asset_has_a_reference_id_by_which_it_is_found() -> None:
    identities = MediaIds(1)

    references = {index: identities.reference_id(index) for index in range(90)}

    assert [index for index, reference in references.items() if reference is not None] == list(range(0, 90, 3))
    for index, reference in references.items():
        if reference is not None:
            assert re.fullmatch("[A-Za-z0-9_-]{6,64}", reference)
            assert identities.index_of_reference_id(reference) == index
    assert identities.index_of_reference_id("ref-000000-0000x") is None


def test_the_same_seed_makes_the_same_media_and_another_seed_makes_others() -> None:
    first, again, other = (library(seed=seed).element(7, NOW) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_assets_of_a_large_library_are_made_on_demand() -> None:
    shelf = library(existing=1_000_000)

    element = shelf.element(999_999, NOW)

    assert shelf.index(element["MediaId"]) == 999_999
    assert shelf.index(shelf.ids.media_id(1_000_000)) is None


@pytest.mark.parametrize(
    ("found", "documented"),
    [
        (lambda elements: [element["MediaInfo"] for element in elements], MEDIA_INFO),
        (mezzanines, MEZZANINE),
        (audio_streams, AUDIO_STREAM),
        (video_streams, VIDEO_STREAM),
        (play_infos, PLAY_INFO),
    ],
    ids=["MediaInfo", "MezzanineInfo", "AudioStream", "VideoStream", "PlayInfo"],
)
def test_every_documented_field_appears_often_and_answers_without_quirks_have_no_others(
    plain: list[Element], found: Any, documented: list[str]
) -> None:
    seen = [name for fields in found(plain) for name, value in fields.items() if value != ""]

    assert set(seen) == set(documented)
    assert [name for name in documented if seen.count(name) < 5] == []


def test_assets_are_of_many_kinds(plain: list[Element]) -> None:
    videos = list(video_streams(plain))

    assert {"h264", "hevc", "av1"} <= {stream["CodecName"] for stream in videos}
    assert {"90", "180", "270"} <= {stream["Rotate"] for stream in videos}
    assert {"HDR10", "DolbyVision"} <= {stream.get("HDRType") for stream in videos}
    assert any(stream["Width"] == "3840" for stream in videos)
    assert any(mezzanine.get("Size", 0) > 2**31 for mezzanine in mezzanines(plain))
    assert {0, 1, 2, 3} <= {len(mezzanine.get("AudioStreamList", [])) for mezzanine in mezzanines(plain)}
    assert any("🎬" in element["MediaInfo"]["Title"] for element in plain)
    assert any("季度" in element["MediaInfo"]["Title"] for element in plain)
    assert any(element["MediaInfo"]["CateId"] > 2**32 for element in plain)
    assert {0, 1, 2, 3} <= {len(element.get("PlayInfoList", [])) for element in plain}


def test_of_streams_with_the_same_definition_and_format_only_the_newest_is_normal(plain: list[Element]) -> None:
    repeated = 0

    for element in plain:
        normal = [(info["Definition"], info["Format"]) for info in element["PlayInfoList"] if info["Status"] == "Normal"]
        every = [(info["Definition"], info["Format"]) for info in element["PlayInfoList"]]
        repeated += len(every) > len(set(every))
        assert len(normal) == len(set(normal)) == len(set(every))

    assert repeated > 10


def test_job_ids_are_unique(plain: list[Element]) -> None:
    jobs = [info["JobId"] for info in play_infos(plain)]

    assert len(jobs) == len(set(jobs))


def of_type(fields: Iterator[Element] | list[Element], name: str) -> set[type]:
    return {type(value[name]) for value in fields if name in value}


def texts(fields: Iterator[Element] | list[Element], name: str) -> set[str]:
    return {value[name] for value in fields if isinstance(value.get(name), str)}


def test_rule_1_numbers_come_as_numbers_and_as_text(elements: list[Element]) -> None:
    assert of_type(mezzanines(elements), "Size") == {int, str}
    assert of_type(mezzanines(elements), "Duration") == {float, str}
    assert of_type(play_infos(elements), "Width") == {int, str}
    assert of_type(video_streams(elements), "Width") == {int, str}
    assert of_type([element["MediaInfo"] for element in elements], "CateId") == {int, str}


def test_rules_2_and_30_text_ends_in_newlines(elements: list[Element]) -> None:
    assert any(name.endswith("\n") for name in texts(mezzanines(elements), "FileName"))
    assert any(name.endswith("\n") for name in texts(audio_streams(elements), "CodecLongName"))
    assert any(time.endswith("Z\n") for time in texts(play_infos(elements), "CreationTime"))


def test_rule_3_snapshots_are_lists_or_lists_in_a_string(elements: list[Element]) -> None:
    lists = [element["MediaInfo"]["Snapshots"] for element in elements if element["MediaInfo"].get("Snapshots")]

    packed = [snapshots for snapshots in lists if snapshots[0].startswith("[")]

    assert 0 < len(packed) < len(lists)
    assert all(len(snapshots) == 1 and json.loads(snapshots[0]) for snapshots in packed)


def test_rules_5_to_11_streams_have_the_values_of_ffprobe(elements: list[Element]) -> None:
    videos = list(video_streams(elements))

    assert "-0.046440" in texts(videos, "StartTime")
    assert {"25", "25.0", "25.0000", "30000/1001", "59.337578"} <= texts(videos, "Fps")
    assert {"0/0", ""} <= texts(videos, "AvgFPS")
    assert {"1/15360", "0.000000"} <= texts(videos, "Timebase")
    assert {"0:1", "81:256"} <= texts(videos, "Sar")
    assert "5.1(side)" in texts(audio_streams(elements), "ChannelLayout")
    assert "[0][0][0][0]" in texts(audio_streams(elements), "CodecTagString")


def test_rules_12_to_14_fields_are_missing_renamed_or_empty(elements: list[Element]) -> None:
    audios = list(audio_streams(elements))

    assert "0" in texts(audios, "NumFrames")
    assert any("NumFrames" not in stream for stream in audios)
    assert any("Samplerate" in stream for stream in audios)
    assert "" in texts(mezzanines(elements), "FileMD5")
    assert {"", None} <= {element["MediaInfo"].get("Description", "") for element in elements}


def test_rule_15_the_inner_id_is_not_always_the_outer_one(elements: list[Element]) -> None:
    assert any(element["MezzanineInfo"]["MediaId"] != element["MediaId"] for element in elements if "MezzanineInfo" in element)


def test_rule_16_lists_are_missing_or_empty(elements: list[Element]) -> None:
    lists = [mezzanine.get("VideoStreamList") for mezzanine in mezzanines(elements)]
    streams = [element.get("PlayInfoList") for element in elements]

    assert None in lists
    assert [] in lists
    assert None in streams
    assert [] in streams
    assert 0 in [mezzanine.get("Width") for mezzanine in mezzanines(elements)]


def test_rules_20_and_22_unlisted_states_and_fields_appear(elements: list[Element]) -> None:
    assert {"Normal", "Checking", "ProduceFail", "Blocked"} <= {element["MediaInfo"]["Status"] for element in elements}
    assert any("TranscodeMode" in element["MediaInfo"] for element in elements)
    assert any("OutputType" in mezzanine for mezzanine in mezzanines(elements))
    assert any("PreprocessStatus" in info for info in play_infos(elements))


def test_rules_23_to_27_encryption_tags_and_hdr(elements: list[Element]) -> None:
    assert {0, 1, "0", "1"} <= {info["Encrypt"] for info in play_infos(elements)}
    assert {"AliyunVoDEncryption", "HLSEncryption"} <= texts(play_infos(elements), "EncryptType")
    assert "sport, live" in {element["MediaInfo"].get("Tags") for element in elements}
    assert {"", "SDR+"} <= texts(play_infos(elements), "HDRType")


def test_signed_urls_change_with_every_answer_and_bare_ones_do_not() -> None:
    shelf = library()
    elements = [shelf.element(index, NOW) for index in range(50)]

    first = [shelf.element(index, NOW, UrlSigner(NOW)) for index in range(50)]
    second = [shelf.element(index, NOW, UrlSigner(NOW)) for index in range(50)]

    assert elements == [shelf.element(index, NOW + 60) for index in range(50)]
    assert first != second
    files = texts(mezzanines(first), "FileURL")
    plays = texts(play_infos(first), "PlayURL")
    assert all(re.search(r"\?Expires=\d+&OSSAccessKeyId=[^&]+&Signature=[^&]+&security-token=", url) for url in files)
    assert any(re.search(r"\?auth_key=\d+-[0-9a-f]+-0-[0-9a-f]{32}$", url) for url in plays)
    assert any("?" not in url for url in plays)


def test_quirks_change_the_form_and_never_the_value() -> None:
    odd, plain = library(), library(quirks=False)
    for index in range(300):
        first = odd.element(index, NOW).get("MezzanineInfo", {})
        second = plain.element(index, NOW).get("MezzanineInfo", {})

        for name in ("Size", "Duration", "Bitrate"):
            assert float(first.get(name, 0)) == float(second.get(name, 0))
        assert first.get("FileName", "").strip() == second.get("FileName", "").strip()


def test_get_video_info_answers_in_both_forms() -> None:
    shelf = library()
    videos = [shelf.video(index, NOW) for index in range(200)]

    assert {type(video["Size"]) for video in videos if "Size" in video} == {int, str}
    assert {type(video["Duration"]) for video in videos if "Duration" in video} == {float, str}
    assert {type(video["Snapshots"]["Snapshot"]) for video in videos} == {str, list}
    assert {"Normal", "Blocked", "Init"} <= {video["AuditStatus"] for video in videos}
    assert {"cn-shanghai", "cn-beijing"} == {video["RegionId"] for video in videos}
