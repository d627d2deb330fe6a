"""What the fields of an answer mean, worked out with the standard library instead of our parsers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import BigInteger, Boolean, Integer, String, Table
from sqlalchemy.sql.type_api import TypeEngine

from tests.fuzz import samples
from tests.fuzz.notification_rules import is_id
from worker.core.media import Answer, Media
from worker.store import tables
from worker.store.types import ExactDecimal, UtcDateTime


class Number(str):
    """A number as it was written."""

    __slots__ = ()


#: The rules say nothing about this value.
UNSPECIFIED = object()

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

#: All names of fields in the samples, which have every documented field.
_SENT_NAMES = set(re.findall(r'"([A-Z][A-Za-z0-9]*)"\s*:', b"".join(samples.ANSWERS).decode()))

#: Attributes whose names are not VOD's field names.
_NAMES = {"created_at": "creationtime", "modified_at": "modificationtime"}


def parse(body: bytes) -> Any:
    """Return the JSON value of `body` with each number as a Number, or None if the standard library does not read it."""
    try:
        return json.loads(body.decode(), parse_int=Number, parse_float=Number, parse_constant=lambda _: UNSPECIFIED)
    except (ValueError, RecursionError):
        return None


def wrong_values(body: bytes, answer: Answer) -> list[str]:
    """Return what the body of an answer states and `answer` does not."""
    document = parse(body)
    if not isinstance(document, dict):
        return []
    return [*_lost_ids(document, answer), *_wrong_assets(document, answer)]


def _lost_ids(document: dict[str, Any], answer: Answer) -> Iterator[str]:
    for name, read in (
        ("NonExistMediaIds", answer.missing),
        ("NonExistReferenceIds", answer.missing_references),
        ("ForbiddenMediaIds", answer.forbidden),
    ):
        sent = document.get(name)
        if isinstance(sent, list) and all(is_id(one) and not isinstance(one, Number) for one in sent) and read != {*sent}:
            yield f"{name}: {sent}"


def _wrong_assets(document: dict[str, Any], answer: Answer) -> Iterator[str]:
    elements = document.get("MediaInfos")
    elements = [element for element in elements if isinstance(element, dict)] if isinstance(elements, list) else []
    by_id = {media.media_id: media for media in answer.media}
    sent_ids = [str(element.get("MediaId")).strip() for element in elements]
    for element, media_id in zip(elements, sent_ids, strict=True):
        if not is_id(media_id) or isinstance(element.get("MediaId"), dict | list | bool | Number | None):
            continue
        if media_id not in by_id:
            yield f"lost: {media_id}"
        # Which of several elements is used is another rule, and an element without an id of its own can be one of them.
        elif len(elements) == len(answer.media):
            yield from _wrong_fields(element, by_id[media_id])


def _wrong_fields(element: dict[str, Any], media: Media) -> Iterator[str]:
    source_file = _object(element, "MezzanineInfo")
    yield from _differences(tables.media, _object(element, "MediaInfo"), media)
    if media.mezzanine:
        yield from _differences(tables.mezzanine, source_file, media.mezzanine)
    for table, key, parent, name, items in (
        (tables.audio_stream, "stream_index", source_file, "AudioStreamList", media.audio_streams),
        (tables.video_stream, "stream_index", source_file, "VideoStreamList", media.video_streams),
        (tables.play_info, "job_id", element, "PlayInfoList", media.play_infos),
    ):
        key_name = "JobId" if key == "job_id" else "Index"
        sent: dict[str, dict[str, Any]] = {}
        elements = parent.get(name)
        for item in elements if isinstance(elements, list) else []:
            if isinstance(item, dict) and is_id(item.get(key_name)) and not isinstance(item[key_name], Number):
                sent.setdefault(item[key_name], item)
        read = {str(getattr(item, key)): item for item in items}
        yield from (f"{name}: lost {lost}" for lost in sent.keys() - read.keys())
        for index in sent.keys() & read.keys():
            yield from _differences(table, sent[index], read[index])


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _differences(table: Table, sent: dict[str, Any], item: object) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for name in sent.keys() & _SENT_NAMES:
        names.setdefault(name.lower(), []).append(name)
    for column in table.columns:
        same = names.get(_NAMES.get(column.name, column.name.replace("_", "")), [])
        if len(same) != 1 or not hasattr(item, column.name) or column.name in ("media_id", "stream_index", "job_id"):
            continue
        expected = meaning(column.type, sent[same[0]], is_rate=column.name.endswith("fps"))
        if column.name == "tags":
            expected = _tags(sent[same[0]])
        if expected is not UNSPECIFIED and getattr(item, column.name) != expected:
            yield f"{table.name}.{column.name}: {getattr(item, column.name)!r} instead of {expected!r}"


def meaning(column_type: TypeEngine[Any], value: Any, *, is_rate: bool = False) -> Any:
    """Return the value that a column of this type has if VOD sends the JSON value `value`, or UNSPECIFIED."""
    if value is None:
        return None
    written = value.strip() if isinstance(value, str) else "true" if value is True else "false" if value is False else None
    if written is None or len(written) > 60:
        return UNSPECIFIED
    if isinstance(column_type, ExactDecimal | Integer) and isinstance(value, bool):
        return None
    if isinstance(column_type, ExactDecimal):
        return _decimal(written, is_rate)
    if isinstance(column_type, Integer) and not isinstance(column_type, Boolean):
        return _integer(written, 63 if isinstance(column_type, BigInteger) else 31)
    if isinstance(column_type, Boolean):
        return _BOOLEANS.get(written.lower(), UNSPECIFIED if _NUMBER.fullmatch(written) else None)
    if isinstance(column_type, UtcDateTime):
        return _time(value)
    if isinstance(column_type, String):
        is_changed = isinstance(value, bool | Number) or re.search("[?&=\\\\\0\ud800-\udfff]", written)
        return UNSPECIFIED if is_changed or written[:1] == "{" else written or None
    return UNSPECIFIED


def _decimal(written: str, is_rate: bool) -> Any:
    numerator, slash, denominator = written.partition("/")
    if slash and is_rate and _NUMBER.fullmatch(numerator) and _NUMBER.fullmatch(denominator) and Fraction(denominator):
        number = Fraction(numerator) / Fraction(denominator)
    elif _NUMBER.fullmatch(written):
        number = Fraction(written)
    else:
        return None if re.fullmatch("[A-Za-z]*", written) else UNSPECIFIED
    millionths = round(number * 10**6)
    return Decimal(millionths).scaleb(-6) if abs(millionths) < 10**18 and abs(number) < 10**12 else None


def _integer(written: str, bits: int) -> Any:
    if not _NUMBER.fullmatch(written):
        return None if re.fullmatch("[A-Za-z]*", written) else UNSPECIFIED
    number = Fraction(written)
    return int(number) if number.denominator == 1 and -(2**bits) <= number < 2**bits else None


def _time(value: Any) -> Any:
    if not isinstance(value, str) or isinstance(value, Number):
        return None
    if not _TIME.fullmatch(value.strip()):
        return UNSPECIFIED
    try:
        time = datetime.fromisoformat(value.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return time if time.year >= 1000 else None


def _tags(value: Any) -> Any:
    if not isinstance(value, str) or isinstance(value, Number) or re.search("[?&=\\\\\0\ud800-\udfff]", value):
        return UNSPECIFIED
    return tuple(part.strip() for part in value.split(",") if part.strip()) or None
