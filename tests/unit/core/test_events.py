"""Parsing of VOD's event notifications."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from worker.core.errors import NotificationRejectedError
from worker.core.events import MAX_MEDIA_IDS, Notification, parse

#: The samples of vod-protocol 2, one per line.
SAMPLES = [json.loads(line) for line in (Path(__file__).parent / "data" / "notifications.jsonl").read_text().splitlines()]

ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


def parsed(**fields: Any) -> Notification:
    """Return the notification whose body has these fields."""
    return parse(json.dumps(fields).encode())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample['EventType']}-{sample['EventTime']}")
def test_every_sample_of_the_protocol_is_parsed(sample: dict[str, Any]) -> None:
    notification = parse(json.dumps(sample).encode())

    media_id = sample.get("VideoId") or sample.get("MediaId")
    assert notification.event_type == sample["EventType"]
    assert notification.media_ids == ((media_id,) if media_id else ())
    assert notification.status == sample["Status"]
    assert notification.needs_fetch is (media_id is not None)
    assert notification.is_deletion is (sample.get("DeleteType") == "all")
    assert notification.event_time is not None
    assert notification.event_time.date().isoformat() == sample["EventTime"][:10]


def test_every_sample_of_the_protocol_has_a_different_event_key() -> None:
    keys = {parse(json.dumps(sample).encode()).event_key for sample in SAMPLES}

    assert len(keys) == len(SAMPLES) == 16


@pytest.mark.parametrize("key", ["VideoId", "MediaId", "VideoId ", " MediaId\n"])
def test_the_id_is_read_from_either_field_with_or_without_white_space(key: str) -> None:
    assert parsed(EventType="VideoAnalysisComplete", **{key: f" {ID}\n"}).media_ids == (ID,)


def test_video_id_is_preferred_to_media_id() -> None:
    assert parsed(MediaId="second", VideoId="first").media_ids == ("first",)
    assert parsed(MediaId="second", VideoId="").media_ids == ("second",)


ABSENT_IDS: list[object] = ["", " ", None, [], {}, False]

#: With the keys of their sync requests.
INVALID_IDS = [
    ("a" * 65, "invalid:" + "a" * 65),
    ("a" * 1000, "invalid:" + "a" * 100),
    ("a b", "invalid:a?b"),
    ("a/b", "invalid:a/b"),
    ("61ccbd****", "invalid:61ccbd****"),
    ("\xe9", "invalid:?"),
    ("a,b", "invalid:a?b"),
    ("a\0\ud800", "invalid:a??"),
    (5, "invalid:(int)"),
    (True, "invalid:(bool)"),
    (["a"], "invalid:(list)"),
    ({"a": "b"}, "invalid:(dict)"),
]


@pytest.mark.parametrize("absent", ABSENT_IDS)
def test_an_absent_id_requests_nothing(absent: object) -> None:
    notification = parsed(EventType="VideoAnalysisComplete", VideoId=absent)

    assert notification.media_ids == ()
    assert not notification.needs_fetch


@pytest.mark.parametrize(("bad", "key"), INVALID_IDS)
@pytest.mark.parametrize("field", ["VideoId", "MediaId"])
def test_an_invalid_id_is_kept_as_a_key_that_no_media_id_has(field: str, bad: object, key: str) -> None:
    notification = parsed(EventType="VideoAnalysisComplete", **{field: bad})

    assert notification.media_ids == (key,)
    assert notification.needs_fetch


@pytest.mark.parametrize("bad", [bad for bad, _ in INVALID_IDS])
def test_a_valid_id_in_another_field_makes_an_invalid_one_irrelevant(bad: object) -> None:
    assert parsed(VideoId=bad, MediaId="good").media_ids == ("good",)


def test_an_invalid_id_of_an_image_requests_nothing() -> None:
    notification = parsed(EventType="DeleteMediaComplete", MediaType="image", MediaIds="a b")

    assert (notification.media_ids, notification.needs_fetch) == ((), False)


@pytest.mark.parametrize("good", ["a", "a" * 64, "A-b_9", "xyz"])
def test_an_id_needs_not_be_hexadecimal(good: str) -> None:
    assert parsed(VideoId=good).media_ids == (good,)


@pytest.mark.parametrize("media_ids", ["one, two,one,,b d", ["one", " two ", "one", None, "", "b d"]])
def test_repeated_ids_of_a_list_are_read_once(media_ids: object) -> None:
    assert parsed(MediaIds=media_ids).media_ids == ("one", "two", "invalid:b?d")
    assert parsed(VideoId="two", MediaIds=media_ids).media_ids == ("two", "one", "invalid:b?d")


def test_a_list_of_too_many_ids_is_cut() -> None:
    notification = parsed(MediaIds=[f"id-{n}" for n in range(5000)])

    assert (len(notification.media_ids), notification.dropped_ids) == (MAX_MEDIA_IDS, 5000 - MAX_MEDIA_IDS)


@pytest.mark.parametrize("task_input", [{"Media": ID}, json.dumps({"Media": ID})])
def test_a_workflow_names_its_media_in_its_input(task_input: object) -> None:
    notification = parsed(EventType="WorkflowTaskComplete", Status="Succeed", TaskInput=task_input)

    assert notification.media_ids == (ID,)
    assert notification.needs_fetch
    assert notification.status == "success"


def test_the_video_id_of_a_workflow_is_preferred_to_its_input() -> None:
    assert parsed(EventType="WorkflowTaskComplete", VideoId="first", TaskInput={"Media": ID}).media_ids == ("first",)


UNREADABLE_INPUTS: list[Any] = ["", "{", "[" * 100_000, "[]", "5", None, [], {"Media": {}}]


def test_an_invalid_id_of_a_workflow_is_kept() -> None:
    assert parsed(EventType="WorkflowTaskComplete", TaskInput={"Media": "a b"}).media_ids == ("invalid:a?b",)


@pytest.mark.parametrize("task_input", UNREADABLE_INPUTS, ids=lambda given: repr(given)[:20])
def test_a_workflow_with_an_unreadable_input_names_no_media(task_input: object) -> None:
    assert parsed(EventType="WorkflowTaskComplete", TaskInput=task_input).media_ids == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"EventType": "ImageUploadComplete", "ImageId": "img-1"},
        {"EventType": "ImageUploadComplete", "MediaId": "img-1"},
        {"EventType": "AttachedMediaUploadComplete", "AttachedMediaId": "att-1"},
        {"EventType": "AttachedMediaUploadComplete", "MediaId": "att-1"},
        {"EventType": "DeleteMediaComplete", "MediaType": "image", "MediaId": "img-1", "DeleteType": "all"},
        {"EventType": "DeleteMediaComplete", "MediaType": "Attached", "MediaId": "att-1", "DeleteType": "all"},
        {"EventType": "MediaBaseChangeComplete", "MediaType": "image", "MediaId": "img-1"},
        {"EventType": "MediaBaseChangeComplete", "MediaType": " attached ", "MediaId": "att-1"},
        {"EventType": "CreateAuditComplete", "SubType": "image", "MediaId": "img-1"},
    ],
)
def test_what_is_neither_audio_nor_video_is_not_fetched(fields: dict[str, Any]) -> None:
    notification = parsed(Status="success", **fields)

    assert not notification.needs_fetch
    assert not notification.is_deletion


@pytest.mark.parametrize(
    "fields",
    [
        {"EventType": "SomethingNewComplete", "MediaId": ID},
        {"EventType": "", "MediaId": ID},
        {"EventType": "AIMediaDNAComplete", "MediaId": ID},
        {"EventType": "MediaBaseChangeComplete", "MediaId": ID},
        {"EventType": "MediaBaseChangeComplete", "MediaType": "audio", "MediaId": ID},
        {"EventType": "CreateAuditComplete", "SubType": "video", "MediaId": ID},
        # SubType and MediaType name the kind of media for some event types only.
        {"EventType": "SnapshotComplete", "SubType": "image", "VideoId": ID},
    ],
)
def test_every_other_event_type_with_an_id_is_fetched(fields: dict[str, Any]) -> None:
    assert parsed(**fields).needs_fetch


@pytest.mark.parametrize(
    ("changed", "deletes"),
    [
        ({}, True),
        ({"MediaType": "audio"}, True),
        ({"MediaType": ""}, True),
        ({"DeleteType": " All "}, True),
        ({"Status": "fail"}, False),
        ({"Status": ""}, False),
        ({"DeleteType": "stream"}, False),
        ({"DeleteType": "mezzanine"}, False),
        ({"DeleteType": None}, False),
        ({"MediaType": "image"}, False),
        ({"MediaId": ""}, False),
        ({"EventType": "MediaBaseChangeComplete", "OperateMode": "delete"}, False),
    ],
)
def test_only_a_successful_deletion_of_the_whole_asset_is_a_deletion(changed: dict[str, Any], deletes: bool) -> None:
    deletion = {"EventType": "DeleteMediaComplete", "Status": "success", "MediaType": "video", "DeleteType": "all", "MediaId": ID}

    assert parsed(**(deletion | changed)).is_deletion is deletes


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("success", "success"),
        ("Success", "success"),
        ("Succeed", "success"),
        (" success\n", "success"),
        ("fail", "fail"),
        ("Failed", "fail"),
        ("Waiting", "Waiting"),
        ("x" * 100, "x" * 64),
        ("a\0b", "a\ufffdb"),
        ("", None),
        (" ", None),
        (None, None),
        (1, None),
        ({}, None),
    ],
)
def test_three_vocabularies_become_one_status(word: object, status: str | None) -> None:
    assert parsed(Status=word).status == status


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2025-11-24T16:00:05Z", datetime(2025, 11, 24, 16, 0, 5, tzinfo=UTC)),
        ("2025-11-24T16:00:01:540Z", datetime(2025, 11, 24, 16, 0, 1, 540_000, tzinfo=UTC)),
        ("2025-11-24T16:00:01.540Z", datetime(2025, 11, 24, 16, 0, 1, 540_000, tzinfo=UTC)),
        (" 2025-11-24T16:00:05Z\n", datetime(2025, 11, 24, 16, 0, 5, tzinfo=UTC)),
        ("2025-11-25T00:00:05+08:00", datetime(2025, 11, 24, 16, 0, 5, tzinfo=UTC)),
        ("2025-02-30T16:00:05Z", None),
        ("2025-11-24T25:00:05Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1764000000, None),
        ([], None),
    ],
)
def test_both_forms_of_time_are_read_and_invalid_ones_are_none(written: object, time: datetime | None) -> None:
    assert parsed(EventTime=written).event_time == time


def test_an_empty_object_is_a_notification() -> None:
    notification = parse(b"{}")

    assert (notification.event_type, notification.media_ids, notification.status) == ("", (), None)
    assert not notification.needs_fetch


def test_the_event_type_is_stripped_made_storable_and_cut() -> None:
    assert parsed(EventType=" VideoAnalysisComplete ").event_type == "VideoAnalysisComplete"
    assert parsed(EventType="a\0\ud800b").event_type == "a\ufffd\ufffdb"
    assert parsed(EventType="x" * 1000).event_type == "x" * 128
    assert parsed(EventType=5).event_type == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"5",
        b'"text"',
        b"[]",
        b'[{"VideoId":"a"}]',
        b'{"VideoId":"a"',
        b'{"VideoId":"a"} x',
        b"VideoId=a&EventType=b",
        b"<xml/>",
        b'{"VideoId":"\xff"}',
        b'{"VideoId":"\xed\xa0\x80"}',
        b'{"VideoId":"a"}'.decode().encode("utf-16"),
        b'{"Duration":NaN}',
        b'{"Duration":-Infinity}',
        b"{'VideoId':'a'}",
        b'{"VideoId":"a\0"}',
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"s":"\\ud800","a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_is_not_a_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(NotificationRejectedError) as raised:
        parse(body)

    assert raised.value.reason == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"VideoId":"a"}',
        b'\n {"VideoId" : "a"}\n',
        b'{"VideoId":"b","VideoId":"a"}',
        b'{"VideoId":"a","Title":"\\ud800"}',
        b'{"VideoId":"a","\\udfff":1}',
        b'{"VideoId":"a","Size":123456789012345678901234567890}',
        b'{"VideoId":"a","Size":' + b"9" * 6000 + b"}",
        b'{"VideoId":"a","Duration":1e999}',
        b'{"VideoId":"a","Duration":-1e999}',
        b'{"VideoId":"a","Title":"\\u0000"}',
        b'{"VideoId":"\\u0061"}',
    ],
    ids=lambda body: repr(body[:44]),
)
def test_unusual_but_valid_json_is_parsed(body: bytes) -> None:
    notification = parse(body)

    assert notification.media_ids == ("a",)
    assert len(notification.event_key) == 64


def test_key_order_and_white_space_do_not_change_the_event_key() -> None:
    compact = parse(b'{"a":1,"b":{"c":[1,2],"d":"\\u00e9"}}')
    spaced = parse('\n{ "b": {"d": "\xe9", "c": [1, 2]}, "a": 1 }'.encode())

    assert compact.event_key == spaced.event_key


def test_key_order_does_not_change_the_event_key_of_a_text_that_utf_8_cannot_represent() -> None:
    assert parse(b'{"a":"\\ud800","b":1}').event_key == parse(b'{"b":1,"a":"\\ud800"}').event_key


def test_every_different_value_changes_the_event_key() -> None:
    bodies = [
        b"{}",
        b'{"a":1}',
        b'{"a":"1"}',
        b'{"a":1.5}',
        b'{"a":true}',
        b'{"a":null}',
        b'{"a":[]}',
        b'{"a":[1,2]}',
        b'{"a":[2,1]}',
        b'{"a":""}',
        b'{"a":" "}',
        b'{"a ":""}',
        b'{"a":"\\u0000"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud801"}',
        b'{"a":"\\\\ud800"}',
        b'{"a":"\\ufffd"}',
        b'{"a":1e999}',
        b'{"a":2e999}',
        b'{"a":18446744073709551616}',
        b'{"a":18446744073709551617}',
        b'{"a":{"b":1}}',
    ]

    assert len({parse(body).event_key for body in bodies}) == len(bodies)


def test_the_event_key_is_the_same_in_every_release() -> None:
    canonical = b'{"a":null,"b":[1,2.5,"x"]}'

    assert parse(b'{"b":[1,2.5,"x"],"a":null}').event_key == hashlib.sha256(canonical).hexdigest()


def test_the_stored_body_has_no_signatures_of_urls() -> None:
    received = b'{ "CoverUrl":"http://img.example.org/c.jpg?auth_key=1-0-0-ff&a=1", "VideoId ":"a" }'

    assert parse(received).body == '{ "CoverUrl":"http://img.example.org/c.jpg?a=1", "VideoId ":"a" }'


@pytest.mark.parametrize("backslashes", [1, 8, 9, 17])
def test_the_stored_body_can_be_parsed_again(backslashes: int) -> None:
    received = b'{"VideoId":"a","Extend":"' + b"\\" * backslashes + b'u003fauth_key=1"}'

    assert parse(parse(received).body.encode()).media_ids == ("a",)
