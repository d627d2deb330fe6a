"""Convert VOD's answers into our types, and compute the hash by which changed content is recognised."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from worker.core.field_parsers import UnreadableError, text, text_list
from worker.core.field_tables import AUDIO_STREAM, MEDIA, MEZZANINE, PLAY_INFO, VIDEO_INFO, VIDEO_STREAM, Fields, Item, ListFields
from worker.core.media import ID_LENGTH, Answer, Media, Mezzanine, VideoInfo
from worker.core.urls import clean

_encode = msgspec.json.Encoder().encode
#: Fields that were added after hashes had been stored, as they are encoded if they are absent. With them in the hash, every stored
#: asset would count as changed after an upgrade.
_LATER_FIELDS = (b',"start_at":null',)

_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def read_answer(body: object) -> Answer:
    """Return an answer of BatchGetMediaInfos. Never raises, for any JSON value (vod-protocol 7 and 9.1).

    `Answer.unreadable` lists the elements that name no asset and the lists that are not lists; it is ("$",) if `body` is not an
    object. Of two elements with the same id, the one with more data of the analysis is returned, or else the first.
    """
    if not isinstance(body, dict):
        return Answer(unreadable=("$",))
    unreadable: list[str] = []
    by_id: dict[str, Media] = {}
    for position, element in enumerate(_list(body, "MediaInfos", unreadable)):
        media = read_media(element)
        if media is None:
            unreadable.append(f"MediaInfos[{position}]")
        elif media.media_id not in by_id or _completeness(media) > _completeness(by_id[media.media_id]):
            by_id[media.media_id] = media
    try:
        request_id = text(clean(body.get("RequestId"))) or ""
    except UnreadableError:
        request_id = ""
    return Answer(
        request_id=request_id,
        media=tuple(by_id.values()),
        missing=_ids(body, "NonExistMediaIds", unreadable),
        missing_references=_ids(body, "NonExistReferenceIds", unreadable),
        forbidden=_ids(body, "ForbiddenMediaIds", unreadable),
        unreadable=tuple(unreadable),
    )


def read_media(element: object) -> Media | None:
    """Return one element of MediaInfos, or None if it has no id of 1 to 64 characters. Never raises.

    A field that cannot be read is None. A stream without a key of its own is left out. Both are listed in `unreadable`. All values
    are read from `Media.raw`, so that reading `raw` again returns an equal Media.
    """
    if not isinstance(element, dict):
        return None
    raw: dict[str, Any] = clean(element)
    # The outer id is the key. The others are used only if it is missing (vod-protocol 7.15).
    media_id = _id(raw, "MediaId") or _id(raw.get("MediaInfo"), "MediaId") or _id(raw.get("MezzanineInfo"), "MediaId")
    if media_id is None or len(media_id) > ID_LENGTH:
        return None
    unreadable: list[str] = []
    info = _object(raw, "MediaInfo", unreadable)
    mezzanine = _object(raw, "MezzanineInfo", unreadable)
    return Media(
        media_id=media_id,
        **_typed(info, MEDIA, "MediaInfo.", unreadable),
        snapshots=_snapshots(info, "MediaInfo.", unreadable),
        mezzanine=Mezzanine(**_typed(mezzanine, MEZZANINE, "MezzanineInfo.", unreadable)) if mezzanine else None,
        audio_streams=_items(AUDIO_STREAM, mezzanine, "MezzanineInfo.AudioStreamList", unreadable),
        video_streams=_items(VIDEO_STREAM, mezzanine, "MezzanineInfo.VideoStreamList", unreadable),
        play_infos=_items(PLAY_INFO, raw, "PlayInfoList", unreadable),
        raw=raw,
        unreadable=tuple(unreadable),
    )


def other_ids(media: Media) -> list[str]:
    """Return the paths of the ids inside an element that differ from its outer id (vod-protocol 7.15)."""
    ids = {f"{name}.MediaId": _id(media.raw.get(name), "MediaId") for name in ("MediaInfo", "MezzanineInfo")}
    return [path for path, media_id in ids.items() if media_id not in (None, media.media_id)]


def read_video_info(body: object) -> VideoInfo | None:
    """Return an answer of GetVideoInfo, or None if it names no asset. Never raises.

    `body` is the whole answer or its Video object. The older form (numbers as text, snapshots in an object) and the newer one are
    both accepted (vod-protocol 9.7).
    """
    if not isinstance(body, dict):
        return None
    video = body.get("Video", body)
    if not isinstance(video, dict):
        return None
    raw: dict[str, Any] = clean(video)
    media_id = _id(raw, "VideoId") or _id(raw, "MediaId")
    if media_id is None or len(media_id) > ID_LENGTH:
        return None
    unreadable: list[str] = []
    return VideoInfo(
        media_id=media_id,
        **_typed(raw, VIDEO_INFO, "", unreadable),
        snapshots=_snapshots(raw, "", unreadable),
        raw=raw,
        unreadable=tuple(unreadable),
    )


def content_hash(media: Media) -> str:
    """Return 64 hex digits that are equal for equal content, in any order of keys, streams and play infos.

    `media` comes from read_media, so its URLs have no signatures. The hash covers the typed values as well as the raw ones: if a
    new release reads more of an answer, the hash differs and the rows are written again.
    """
    raw = dict(media.raw)
    _sort_list(raw, "PlayInfoList")
    if isinstance(mezzanine := raw.get("MezzanineInfo"), dict):
        raw["MezzanineInfo"] = mezzanine = dict(mezzanine)
        _sort_list(mezzanine, "AudioStreamList")
        _sort_list(mezzanine, "VideoStreamList")
    typed = msgspec.structs.replace(
        media,
        audio_streams=tuple(sorted(media.audio_streams, key=lambda stream: stream.stream_index)),
        video_streams=tuple(sorted(media.video_streams, key=lambda stream: stream.stream_index)),
        play_infos=tuple(sorted(media.play_infos, key=lambda play: play.job_id)),
        raw={},
        # It follows from the rest, and its paths depend on the order.
        unreadable=(),
    )
    # The fields of our types have a fixed order. Only VOD's own objects need sorting.
    encoded = _encode(typed)
    for absent in _LATER_FIELDS:
        encoded = encoded.replace(absent, b"")
    return hashlib.sha256(encoded + _encode_sorted(raw)).hexdigest()


def _typed(values: dict[str, Any], fields: Fields, path: str, unreadable: list[str]) -> dict[str, Any]:
    """Return the attributes that `fields` reads from the JSON object `values`."""
    attributes: dict[str, Any] = {}
    for name, attribute, parse in fields:
        value = values.get(name)
        if value is None:
            continue
        try:
            parsed = parse(value)
        except UnreadableError:
            unreadable.append(path + name)
        else:
            if parsed is not None:
                attributes.setdefault(attribute, parsed)
    return attributes


def _object(raw: dict[str, Any], name: str, unreadable: list[str]) -> dict[str, Any]:
    # Absent, null and empty are equal (vod-protocol 7.16).
    value = raw.get(name) or {}
    if isinstance(value, dict):
        return value
    unreadable.append(name)
    return {}


def _list(parent: dict[str, Any], path: str, unreadable: list[str]) -> list[Any]:
    value = parent.get(path.rpartition(".")[2]) or []
    if isinstance(value, list):
        return value
    unreadable.append(path)
    return []


def _id(parent: object, name: str) -> str | None:
    try:
        return text(parent.get(name)) if isinstance(parent, dict) else None
    except UnreadableError:
        return None


def _ids(body: dict[str, Any], name: str, unreadable: list[str]) -> frozenset[str]:
    ids, is_complete = text_list(clean(body.get(name)), commas=True)
    if not is_complete:
        unreadable.append(name)
    return frozenset(ids or ())


def _snapshots(parent: dict[str, Any], path: str, unreadable: list[str]) -> tuple[str, ...] | None:
    urls, is_complete = text_list(parent.get("Snapshots"), wrapper="Snapshot")
    if not is_complete:
        unreadable.append(f"{path}Snapshots")
    return urls


def _items(definition: ListFields[Item], parent: dict[str, Any], path: str, unreadable: list[str]) -> tuple[Item, ...]:
    """Return one item for each element that has a key. Of two elements with the same key, the first is used (vod-protocol 7.28)."""
    by_key: dict[str, Item] = {}
    for position, element in enumerate(_list(parent, path, unreadable)):
        element_path = f"{path}[{position}]"
        key = _id(element, definition.key)
        if key is None or len(key) > definition.max_key_length or key in by_key:
            unreadable.append(element_path)
            continue
        attributes = _typed(element, definition.fields, f"{element_path}.", unreadable)
        attributes[definition.key_attribute] = key
        by_key[key] = definition.item(**attributes)
    return tuple(by_key.values())


def _sort_list(parent: dict[str, Any], name: str) -> None:
    if isinstance(elements := parent.get(name), list) and len(elements) > 1:
        parent[name] = [msgspec.Raw(encoded) for encoded in sorted(map(_encode_sorted, elements))]


def _completeness(media: Media) -> tuple[bool, int]:
    return media.is_analysed, len(media.audio_streams) + len(media.video_streams) + len(media.play_infos)
