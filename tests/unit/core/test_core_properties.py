"""Properties of parsing that hold for any input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core import field_parsers, field_tables
from worker.core.errors import NotificationRejectedError
from worker.core.events import parse
from worker.core.media import AudioStream, Media, Mezzanine, PlayInfo, VideoStream
from worker.core.normalise import content_hash, read_answer, read_media, read_video_info
from worker.core.urls import MAX_DEPTH

FIELDS = {
    Media: field_tables.MEDIA,
    Mezzanine: field_tables.MEZZANINE,
    AudioStream: field_tables.AUDIO_STREAM.fields,
    VideoStream: field_tables.VIDEO_STREAM.fields,
    PlayInfo: field_tables.PLAY_INFO.fields,
}

# Arbitrary JSON that often has the names and texts that the parsers look for.

NAMES = sorted(
    {name for fields in FIELDS.values() for name, _, _ in fields}
    | {
        "MediaInfos",
        "MediaInfo",
        "MezzanineInfo",
        "PlayInfoList",
        "AudioStreamList",
        "VideoStreamList",
        "MediaId",
        "VideoId",
        "Video",
    }
    | {"NonExistMediaIds", "ForbiddenMediaIds", "RequestId", "Index", "JobId", "Snapshots", "Snapshot", "EventType", "EventTime"}
    | {"DeleteType", "MediaType", "SubType", "MediaIds", "TaskInput", "Media"}
)
WORDS = [
    "0",
    "1",
    "-1",
    "N/A",
    "0/0",
    "1/0",
    "25.0",
    "1e999",
    "2017-11-14T09:15:50Z",
    "0001-01-01T00:00:00+23:00",
    "[",
    '["a"]',
    "a,b",
]
WORDS += [
    "all",
    "success",
    "DeleteMediaComplete",
    "WorkflowTaskComplete",
    "http://a/b?auth_key=1",
    "\0",
    "\ud800",
    " \n",
    "{}",
    '{"Media":"a"}',
]

texts = st.sampled_from(WORDS) | st.text(st.characters() | st.sampled_from("\0\ud800"), max_size=10)
names = st.sampled_from(NAMES) | texts
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
any_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6),
    max_leaves=30,
)
objects = st.dictionaries(names, any_json, max_size=8)


def fields_of(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([name for name, _, _ in FIELDS[kind]]), scalars | any_json, max_size=8)


def with_key(name: str, fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    keyed = st.builds(lambda key, rest: rest | {name: key}, st.sampled_from(["0", 0, "1", " 1 ", "", None]) | scalars, fields)
    return st.lists(keyed | any_json, max_size=4) | any_json


#: Elements of the right form with any value in their fields.
elements = st.fixed_dictionaries(
    {"MediaId": st.just("m") | scalars},
    optional={
        "MediaInfo": st.builds(lambda info, shots: info | {"Snapshots": shots}, fields_of(Media), any_json) | any_json,
        "MezzanineInfo": st.builds(
            lambda info, audio, video: info | {"AudioStreamList": audio, "VideoStreamList": video},
            fields_of(Mezzanine),
            with_key("Index", fields_of(AudioStream)),
            with_key("Index", fields_of(VideoStream)),
        )
        | any_json,
        "PlayInfoList": with_key("JobId", fields_of(PlayInfo)),
        "Undocumented": any_json,
    },
)


@given(st.binary() | any_json.map(lambda value: json.dumps(value).encode()) | objects.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_notification_or_malformed(body: bytes) -> None:
    try:
        notification = parse(body)
    except NotificationRejectedError as error:
        reason = error.reason
    else:
        reason = ""
        assert len(notification.event_key) == 64
        assert notification.needs_fetch <= bool(notification.media_ids)
        assert notification.is_deletion <= notification.needs_fetch

    assert reason in {"", "malformed"}


@given(objects, st.randoms(use_true_random=False), st.booleans())
def test_the_event_key_does_not_depend_on_layout(value: dict[str, Any], random: Random, escaped: bool) -> None:
    def shuffled(inner: Any) -> Any:
        if isinstance(inner, dict):
            names = list(inner)
            random.shuffle(names)
            return {name: shuffled(inner[name]) for name in names}
        return [shuffled(one) for one in inner] if isinstance(inner, list) else inner

    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    compact = json.dumps(finite, separators=(",", ":")).encode()
    try:
        spread = json.dumps(shuffled(finite), indent=3, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair has no UTF-8 form; it can only be sent as an escape.
        spread = json.dumps(shuffled(finite), indent=3).encode()

    assert parse(compact).event_key == parse(spread).event_key


@given(objects, names, scalars, scalars)
def test_the_event_key_differs_if_a_value_differs(value: dict[str, Any], name: str, one: Any, other: Any) -> None:
    finite, one, other = (json.loads(json.dumps(sent), parse_constant=lambda _: None) for sent in (value, one, other))
    first, second = json.dumps(finite | {name: one}, sort_keys=True), json.dumps(finite | {name: other}, sort_keys=True)

    assert (parse(first.encode()).event_key == parse(second.encode()).event_key) is (first == second)


@given(any_json | st.fixed_dictionaries({"MediaInfos": st.lists(elements | any_json, max_size=3), "NonExistMediaIds": any_json}))
def test_any_answer_is_read_without_an_error(body: Any) -> None:
    answer = read_answer(body)

    assert all(media.media_id for media in answer.media)
    assert read_answer(body) == answer
    read_video_info(body)


@settings(max_examples=200)
@given(elements)
def test_an_asset_is_storable_and_equals_what_is_read_from_its_raw(element: dict[str, Any]) -> None:
    before = repr(element)

    media = read_media(element)

    assert repr(element) == before
    if media is None:
        return
    read_again = read_media(json.loads(json.dumps(media.raw, allow_nan=False)))
    assert read_again == media
    assert read_again is not None
    assert len(content_hash(media)) == 64
    assert content_hash(read_again) == content_hash(media)
    assert_storable(media.raw)
    assert_storable(msgspec.to_builtins(media))


def assert_storable(value: Any, level: int = 1) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            assert_storable(key)
            assert_storable(inner, level + 1)
    elif isinstance(value, list):
        for inner in value:
            assert_storable(inner, level + 1)
    elif isinstance(value, str):
        assert "\0" not in value
        value.encode()
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**64
    # In a Media, `raw` is one level down.
    assert level <= MAX_DEPTH + 2


# Generate typed values, write each of them in one of VOD's forms, and read it back.

plain_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="?&="), min_size=1, max_size=12).filter(
    str.strip
)


def with_white_space(written: str) -> st.SearchStrategy[str]:
    return st.sampled_from([written, f"{written}\n", f" {written} "])


def as_integer(value: int) -> st.SearchStrategy[Any]:
    forms = [st.just(value), with_white_space(str(value)), with_white_space(f"{value}.0")]
    return st.one_of([*forms, st.just(float(value))] if abs(value) < 2**53 else forms)


def as_decimal(value: Decimal) -> st.SearchStrategy[Any]:
    shortest = value.normalize()
    forms = [with_white_space(str(value)), with_white_space(f"{shortest:f}"), with_white_space(f"{value}000")]
    # A float represents fifteen digits exactly.
    return st.one_of([*forms, st.just(float(value))] if len(shortest.as_tuple().digits) <= 15 else forms)


def as_rate(value: Decimal) -> st.SearchStrategy[Any]:
    return as_decimal(value) | with_white_space(f"{int(value * 1_000_000)}/1000000")


def as_time(value: datetime) -> st.SearchStrategy[str]:
    whole = value.strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    if value.microsecond:
        return st.sampled_from(".:").flatmap(lambda point: with_white_space(f"{whole}{point}{value.microsecond:06d}Z"))
    return st.sampled_from(["Z", "+00:00", ""]).flatmap(lambda zone: with_white_space(whole + zone))


def as_flag(value: bool) -> st.SearchStrategy[Any]:
    return st.sampled_from([True, 1, "1", "true", "True"] if value else [False, 0, "0", "false", "False"])


def as_tags(value: tuple[str, ...]) -> st.SearchStrategy[Any]:
    return st.just(list(value)) | st.sampled_from([",", ", ", ",,"]).map(lambda comma: comma.join(value))


PARSERS: dict[Any, tuple[st.SearchStrategy[Any], Callable[[Any], st.SearchStrategy[Any]]]] = {
    field_parsers.text: (plain_texts.map(str.strip), with_white_space),
    field_parsers.text_or_object: (plain_texts.map(str.strip), with_white_space),
    field_parsers.integer32: (st.integers(-(2**31), 2**31 - 1), as_integer),
    field_parsers.integer64: (st.integers(-(2**63), 2**63 - 1), as_integer),
    field_parsers.decimal: (
        st.decimals("-999999999999.999999", "999999999999.999999", places=6).map(lambda value: value + 0),
        as_decimal,
    ),
    # One of the two reads each value.
    field_parsers.start_offset: (
        st.decimals("-999999999999.999999", "999999999999.999999", places=6).map(lambda value: value + 0),
        as_decimal,
    ),
    field_parsers.start_date: (st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)), as_time),
    field_parsers.frame_rate: (st.decimals(0, 1000, places=6).map(lambda value: value + 0), as_rate),
    field_parsers.utc_time: (st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)), as_time),
    field_parsers.boolean: (st.booleans(), as_flag),
    field_parsers.tags: (
        st.lists(plain_texts.map(lambda text: text.replace(",", " ").strip()).filter(bool), min_size=1, max_size=4).map(tuple),
        as_tags,
    ),
}


#: A JSON object as VOD writes it, and the attributes that are read from it.
Sent = tuple[dict[str, Any], dict[str, Any]]


@st.composite
def sent_and_typed(draw: st.DrawFn, kind: Any) -> Sent:
    sent: dict[str, Any] = {}
    typed: dict[str, Any] = {}
    for name, attribute, parser in FIELDS[kind]:
        form = draw(st.sampled_from(["value", "value", "absent", "null", "empty"]))
        if name in sent:
            continue
        if form == "value" and attribute not in typed:
            values, render = PARSERS[parser]
            typed[attribute] = draw(values)
            sent[name] = draw(render(typed[attribute]))
        elif form in {"null", "empty"}:
            sent[name] = None if form == "null" else draw(st.sampled_from(["", " ", "\n"]))
    return sent, typed


@settings(max_examples=40)
@given(
    sent_and_typed(Media),
    sent_and_typed(Mezzanine),
    st.lists(sent_and_typed(AudioStream), max_size=2),
    st.lists(sent_and_typed(VideoStream), max_size=2),
    st.lists(sent_and_typed(PlayInfo), max_size=3),
)
def test_typed_values_are_what_was_sent(info: Sent, source: Sent, audio: list[Sent], video: list[Sent], plays: list[Sent]) -> None:
    def keyed(name: str, items: list[Sent]) -> list[dict[str, Any]]:
        return [sent | {name: str(position)} for position, (sent, _) in enumerate(items)]

    element = {
        "MediaId": "m",
        "MediaInfo": info[0],
        "MezzanineInfo": source[0] | {"AudioStreamList": keyed("Index", audio), "VideoStreamList": keyed("Index", video)},
        "PlayInfoList": keyed("JobId", plays),
    }

    media = read_media(json.loads(json.dumps(element)))

    assert media == Media(
        media_id="m",
        **info[1],
        mezzanine=Mezzanine(**source[1]),
        audio_streams=tuple(AudioStream(stream_index=str(n), **typed) for n, (_, typed) in enumerate(audio)),
        video_streams=tuple(VideoStream(stream_index=str(n), **typed) for n, (_, typed) in enumerate(video)),
        play_infos=tuple(PlayInfo(job_id=str(n), **typed) for n, (_, typed) in enumerate(plays)),
        raw=media.raw if media else {},
    )
