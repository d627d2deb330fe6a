"""Values exactly at a limit are read. Values beyond it are not."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from worker.core.errors import NotificationRejectedError
from worker.core.events import parse, parse_queued
from worker.core.field_parsers import text_list
from worker.core.ids import is_valid_id
from worker.core.listing import read_page
from worker.core.media import ID_LENGTH, JOB_ID_LENGTH, STREAM_INDEX_LENGTH
from worker.core.normalise import read_answer, read_media, read_video_info
from worker.core.urls import MAX_DEPTH, clean
from worker.vod.smq_xml import SmqXmlError, parse_messages

LONGEST_ID = "a" * ID_LENGTH


# Ids


def test_a_media_id_of_64_characters_is_read_and_a_longer_one_is_not() -> None:
    longest = read_media({"MediaId": LONGEST_ID})
    too_long = read_media({"MediaId": LONGEST_ID + "a"})

    assert longest is not None
    assert longest.media_id == LONGEST_ID
    assert too_long is None


def test_a_video_info_for_an_id_of_64_characters_is_read_and_for_a_longer_one_is_not() -> None:
    longest = read_video_info({"VideoId": LONGEST_ID})
    too_long = read_video_info({"VideoId": LONGEST_ID + "a"})

    assert longest is not None
    assert longest.media_id == LONGEST_ID
    assert too_long is None


def test_a_listed_id_of_64_characters_is_kept_and_a_longer_one_is_not() -> None:
    page = read_page({"MediaList": [{"MediaId": LONGEST_ID}, {"MediaId": LONGEST_ID + "a"}]})

    assert [row.media_id for row in page.rows] == [LONGEST_ID]
    assert page.length == 2


def test_an_id_that_can_be_stored_can_be_requested() -> None:
    assert is_valid_id(LONGEST_ID)
    assert not is_valid_id(LONGEST_ID + "a")


@pytest.mark.parametrize(
    ("list_name", "key_name", "longest"),
    [
        ("VideoStreamList", "Index", STREAM_INDEX_LENGTH),
        ("AudioStreamList", "Index", STREAM_INDEX_LENGTH),
        ("PlayInfoList", "JobId", JOB_ID_LENGTH),
    ],
)
def test_a_stream_key_of_the_longest_length_is_read_and_a_longer_one_is_reported(
    list_name: str, key_name: str, longest: int
) -> None:
    streams = [{key_name: "k" * longest}, {key_name: "k" * (longest + 1)}]
    parent: dict[str, Any] = {list_name: streams}
    element = {"MediaId": "m"} | (parent if list_name == "PlayInfoList" else {"MezzanineInfo": parent})

    media = read_media(element)

    assert media is not None
    assert len(media.video_streams) + len(media.audio_streams) + len(media.play_infos) == 1
    assert [path.rpartition(".")[2] for path in media.unreadable] == [f"{list_name}[1]"]


# Nesting


def nested_objects(levels: int) -> Any:
    value: Any = "leaf"
    for _ in range(levels):
        value = {"k": value}
    return value


def nested_lists(levels: int) -> Any:
    value: Any = "leaf"
    for _ in range(levels):
        value = [value]
    return value


def test_objects_at_the_deepest_level_stay_objects_and_deeper_ones_become_text() -> None:
    assert clean(nested_objects(MAX_DEPTH)) == nested_objects(MAX_DEPTH)

    innermost = clean(nested_objects(MAX_DEPTH + 1))
    for _ in range(MAX_DEPTH):
        innermost = innermost["k"]

    assert innermost == '{"k":"leaf"}'


def test_lists_at_the_deepest_level_stay_lists_and_deeper_ones_become_text() -> None:
    assert clean(nested_lists(MAX_DEPTH)) == nested_lists(MAX_DEPTH)

    innermost = clean(nested_lists(MAX_DEPTH + 1))
    for _ in range(MAX_DEPTH):
        (innermost,) = innermost

    assert innermost == '["leaf"]'


def test_four_nested_lists_are_read_and_five_are_not() -> None:
    assert text_list(nested_lists(4)) == (("leaf",), True)
    assert text_list(nested_lists(5)) == (None, False)


def test_json_text_below_four_lists_is_kept_as_text() -> None:
    def around(leaf: str, levels: int) -> Any:
        return leaf if levels == 0 else [around(leaf, levels - 1)]

    assert text_list(around('["leaf"]', 2)) == (("leaf",), True)
    assert text_list(around('["leaf"]', 4)) == (('["leaf"]',), True)


def test_five_nested_wrappers_are_read_and_six_are_not() -> None:
    def wrapped(levels: int) -> Any:
        value: Any = "leaf"
        for _ in range(levels):
            value = {"Snapshot": value}
        return value

    # The outermost wrapper does not count as a level.
    assert text_list(wrapped(5), wrapper="Snapshot") == (("leaf",), True)
    assert text_list(wrapped(6), wrapper="Snapshot") == (None, False)


def test_xml_of_16_levels_is_read_and_of_17_is_refused() -> None:
    def message(levels: int) -> bytes:
        inner = "<X>" * (levels - 1) + "</X>" * (levels - 1)
        return f"<Message><MessageBody>{{}}</MessageBody>{inner}</Message>".encode()

    assert [received.body for received in parse_messages(message(16))] == ["{}"]
    with pytest.raises(SmqXmlError, match="nested too deeply"):
        parse_messages(message(17))


# Names with and without a blank


@pytest.mark.parametrize("names", [("VideoId", "VideoId "), ("VideoId ", "VideoId"), (" VideoId", "VideoId\n")])
def test_the_first_of_two_names_that_differ_only_in_blanks_counts(names: tuple[str, str]) -> None:
    first, second = names

    notification = parse(json.dumps({first: "first", second: "second"}).encode())

    assert notification.media_ids == ("first",)


# Base64


@pytest.mark.parametrize("character", ["*", "!", "é", "-", "."])
def test_a_queued_text_with_characters_outside_of_base64_is_malformed(character: str) -> None:
    encoded = base64.b64encode(b'{"VideoId": "a"}').decode()

    with pytest.raises(NotificationRejectedError) as error:
        parse_queued(encoded[:8] + character + encoded[8:])

    assert error.value.reason == "malformed"


def test_a_queued_text_with_truncated_base64_is_malformed() -> None:
    encoded = base64.b64encode(b'{"VideoId": "ab"}').decode()

    with pytest.raises(NotificationRejectedError) as error:
        parse_queued(encoded.rstrip("=")[:-1])

    assert error.value.reason == "malformed"


def test_base64_in_lines_is_read() -> None:
    encoded = base64.b64encode(b'{"VideoId": "a"}').decode()

    assert parse_queued(f"{encoded[:8]}\r\n {encoded[8:]}\n").media_ids == ("a",)


def test_a_message_is_not_intact_if_its_digest_fits_only_the_lenient_decoding_of_invalid_base64() -> None:
    encoded = base64.b64encode(b'{"VideoId": "a"}').decode()
    digest = hashlib.md5(b'{"VideoId": "a"}', usedforsecurity=False).hexdigest().upper()

    def message(body: str) -> bytes:
        return f"<Message><MessageBody>{body}</MessageBody><MessageBodyMD5>{digest}</MessageBodyMD5></Message>".encode()

    assert [received.intact for received in parse_messages(message(encoded))] == [True]
    assert [received.intact for received in parse_messages(message(f"{encoded[:8]}*{encoded[8:]}"))] == [False]


# Comma lists


def test_a_url_in_a_comma_list_keeps_its_commas() -> None:
    assert text_list("https://cdn.example/a,b.jpg", commas=True) == (("https://cdn.example/a,b.jpg",), True)
    assert text_list(["https://cdn.example/a,b.jpg", "c,d"], commas=True) == (("https://cdn.example/a,b.jpg", "c", "d"), True)


def test_without_a_scheme_a_comma_separates() -> None:
    assert text_list("a:b,c//d", commas=True) == (("a:b", "c//d"), True)
    assert text_list("a,b") == (("a,b",), True)


def test_missing_ids_of_an_answer_are_read_from_a_comma_list() -> None:
    assert read_answer({"NonExistMediaIds": "a, b"}).missing == {"a", "b"}
