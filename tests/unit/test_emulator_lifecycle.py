"""The events of an upload, their order, and the answers of the API at the same time."""

from __future__ import annotations

import json
from typing import Any

from worker.emulator.library.event_sequences import UploadEvents
from worker.emulator.library.library import Library

START = 1_764_000_000.0


def uploads(count: int = 60, *, life_seconds: float = 10, damaged: bool = False) -> tuple[Library, list[UploadEvents]]:
    library = Library(seed=3, existing=5, quirks=False)
    upload = library.add(count, now=START, life_seconds=life_seconds, damaged=damaged)
    return library, [UploadEvents(library, upload, index) for index in range(5, 5 + count)]


def event_bodies(life: UploadEvents) -> list[dict[str, Any]]:
    return [life.body(number) for number in range(len(life))]


def a_video(lives: list[UploadEvents]) -> UploadEvents:
    return next(life for life in lives if life.library.outline(life.index).is_video)


def an_audio(lives: list[UploadEvents]) -> UploadEvents:
    return next(life for life in lives if not life.library.outline(life.index).is_video)


def test_the_events_of_a_video_come_in_order() -> None:
    _, lives = uploads()

    types = [event["EventType"] for event in event_bodies(a_video(lives))]

    assert len(types) >= 6
    assert types[:4] == ["MediaBaseChangeComplete", "FileUploadComplete", "VideoAnalysisComplete", "SnapshotComplete"]
    assert set(types[4:-1]) == {"StreamTranscodeComplete"}
    assert types[-1] == "TranscodeComplete"


def test_an_audio_asset_has_no_snapshots_and_no_video_streams() -> None:
    _, lives = uploads()

    events = {event["EventType"]: event for event in event_bodies(an_audio(lives))}

    assert "SnapshotComplete" not in events
    assert not {"Width", "Height", "Fps"} & events["VideoAnalysisComplete"].keys()


def test_due_times_never_go_backwards_and_end_with_the_last_event() -> None:
    _, lives = uploads()

    due_times = [[life.due_at(number) for number in range(len(life))] for life in lives]

    assert len(due_times) == 60
    assert due_times == [sorted(due) for due in due_times]
    assert {due[0] for due in due_times} == {START}
    assert START < max(due[-1] for due in due_times) <= START + 10


def test_every_event_of_an_asset_has_a_different_body_that_never_changes() -> None:
    _, lives = uploads()

    bodies = [[json.dumps(body) for body in event_bodies(life)] for life in lives]
    bodies_again = [[json.dumps(body) for body in event_bodies(life)] for life in lives]

    assert min(map(len, bodies)) >= 3
    assert bodies_again == bodies
    assert [len(set(of_one_life)) for of_one_life in bodies] == [len(of_one_life) for of_one_life in bodies]


def test_analysis_events_have_numbers_or_text() -> None:
    _, lives = uploads()

    sizes = {type(life.body(2)["Size"]) for life in lives}

    assert sizes == {int, str}


def test_transcoding_events_have_the_types_that_vod_sends() -> None:
    library, lives = uploads()
    life = a_video(lives)

    last = event_bodies(life)[-1]

    streams = [stream for stream in last["StreamInfos"] if stream["Status"] == "success"]
    assert [stream["JobId"] for stream in streams] == [
        info["JobId"] for info in library.documented_element(life.index)["PlayInfoList"]
    ]
    assert {type(stream["Encrypt"]) for stream in streams} == {bool}
    assert {type(stream["Bitrate"]) for stream in streams} == {str}
    assert {type(stream["Duration"]) for stream in streams} == {float}


def test_extend_of_the_user_data_is_sent_as_text() -> None:
    _, lives = uploads()

    extends = [event["Extend"] for life in lives for event in event_bodies(life) if "Extend" in event]

    assert extends
    assert all(isinstance(extend, str) and isinstance(json.loads(extend), dict) for extend in extends)


def test_the_answer_of_the_api_agrees_with_the_events_so_far() -> None:
    library, lives = uploads()
    life = a_video(lives)

    def seen(share: float) -> dict[str, Any]:
        return library.element(life.index, START + 10 * share)

    assert seen(0.1)["MediaInfo"]["Status"] == "Uploading"
    assert seen(0.1)["MezzanineInfo"] == {"MediaId": seen(0.1)["MediaId"], "Status": "Uploading"}
    assert seen(0.2)["MediaInfo"]["Status"] == "UploadSucc"
    assert "Size" in seen(0.2)["MezzanineInfo"]
    assert "Duration" not in seen(0.2)["MezzanineInfo"]
    assert seen(0.4)["MediaInfo"]["Status"] == "Transcoding"
    assert seen(0.4)["MezzanineInfo"]["VideoStreamList"]
    assert "CoverURL" not in seen(0.4)["MediaInfo"]
    assert seen(0.46)["MediaInfo"]["CoverURL"]
    assert seen(0.46)["PlayInfoList"] == []
    assert seen(1)["MediaInfo"]["Status"] == "Normal"
    assert len(seen(1)["PlayInfoList"]) == library.outline(life.index).stream_count


def test_transcoded_streams_appear_one_by_one() -> None:
    library, lives = uploads()
    life = next(life for life in lives if library.outline(life.index).stream_count >= 3)

    counts = [len(library.element(life.index, START + tenth / 10)["PlayInfoList"]) for tenth in range(101)]

    assert counts == sorted(counts)
    assert set(counts) == set(range(library.outline(life.index).stream_count + 1))


def test_an_upload_without_duration_is_finished_at_once() -> None:
    library, lives = uploads(life_seconds=0)

    statuses = [library.element(life.index, START)["MediaInfo"]["Status"] for life in lives]
    due_times = {life.due_at(number) for life in lives for number in range(len(life))}

    assert statuses == ["Normal"] * 60
    assert due_times == {START}


def test_a_damaged_file_ends_with_a_failed_analysis() -> None:
    library, lives = uploads(damaged=True)

    last = event_bodies(lives[0])[-1]

    assert (last["EventType"], last["Status"], last["ErrorCode"]) == (
        "VideoAnalysisComplete",
        "fail",
        "InvalidParameter.ResourceContentBad",
    )
    assert "Size" not in last
    assert library.element(5, START + 100)["MediaInfo"]["Status"] == "UploadSucc"


def test_a_manual_change_moves_the_modification_time() -> None:
    library, _ = uploads()

    before = library.change(5, {"Title": "Renamed", "CateId": 7}, START + 3600)

    info = library.element(5, START + 3600)["MediaInfo"]
    assert before["Title"] != "Renamed"
    assert (info["Title"], info["CateId"], info["ModificationTime"]) == ("Renamed", 7, "2025-11-24T17:00:00Z")


def test_an_asset_remains_without_its_source_file_and_streams() -> None:
    library, lives = uploads()
    index = a_video(lives).index
    jobs = [info["JobId"] for info in library.documented_element(index)["PlayInfoList"]]

    library.delete(index, START + 60, file_only=True)
    library.delete(index, START + 61, job_ids=(jobs[0],))

    element = library.element(index, START + 62)
    assert element["MezzanineInfo"] == {"MediaId": element["MediaId"], "Status": "Deleted"}
    assert [info["JobId"] for info in element["PlayInfoList"]] == jobs[1:]
    assert not library.is_deleted(index)
