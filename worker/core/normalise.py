"""The provider's JSON in, our media types out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from worker.core import field_parsers
from worker.core.field_parsers import (
    UnreadableError,
    decimal,
    flag,
    instant,
    integer32,
    integer64,
    rate,
    tags,
    text,
    text_or_object,
)
from worker.core.media import (
    ID_LENGTH,
    JOB_ID_LENGTH,
    STREAM_INDEX_LENGTH,
    Answer,
    AudioStream,
    Media,
    Mezzanine,
    PlayInfo,
    VideoInfo,
    VideoStream,
)
from worker.core.urls import clean

#: VOD's name of a field, our attribute, and how it is read. Where two names fill one attribute, the first that says something wins.
Fields = tuple[tuple[str, str, Callable[[object], Any]], ...]

_MEDIA: Fields = (
    ("Title", "title", text),
    ("Description", "description", text),
    ("Status", "status", text),
    ("CateId", "cate_id", integer64),
    ("CateName", "cate_name", text),
    ("Tags", "tags", tags),
    ("CoverURL", "cover_url", text),
    ("CreationTime", "created_at", instant),
    ("ModificationTime", "modified_at", instant),
    ("StorageLocation", "storage_location", text),
    ("StorageClass", "storage_class", text),
    ("RestoreStatus", "restore_status", text),
    ("RestoreExpiration", "restore_expiration", instant),
    ("DownloadSwitch", "download_switch", text),
    ("TemplateGroupId", "template_group_id", text),
    ("AppId", "app_id", text),
    ("UserData", "user_data", text_or_object),
    ("ReferenceId", "reference_id", text),
)

_VIDEO_INFO: Fields = (
    *_MEDIA,
    ("AuditStatus", "audit_status", text),
    ("RegionId", "region_id", text),
    ("Size", "size", integer64),
    ("Duration", "duration", decimal),
    ("CustomMediaInfo", "custom_media_info", text_or_object),
)

_MEZZANINE: Fields = (
    ("Status", "status", text),
    ("FileName", "file_name", text),
    ("FileURL", "file_url", text),
    ("FileMD5", "file_md5", text),
    ("CreationTime", "created_at", instant),
    ("Size", "size", integer64),
    ("Width", "width", integer32),
    ("Height", "height", integer32),
    ("Duration", "duration", decimal),
    ("Bitrate", "bitrate", decimal),
    ("Fps", "fps", rate),
)

_STREAM: Fields = (
    ("CodecName", "codec_name", text),
    ("CodecLongName", "codec_long_name", text),
    ("CodecTag", "codec_tag", text),
    ("CodecTagString", "codec_tag_string", text),
    ("CodecTimeBase", "codec_time_base", text),
    ("Timebase", "time_base", text),
    # Documented as a date, in reality an offset in seconds (vod-protocol 7.5).
    ("StartTime", "start_time", decimal),
    ("Duration", "duration", decimal),
    ("Bitrate", "bitrate", decimal),
    ("NumFrames", "num_frames", integer64),
    ("Lang", "lang", text),
)

_AUDIO_STREAM: Fields = (
    *_STREAM,
    ("SampleRate", "sample_rate", integer32),
    ("Samplerate", "sample_rate", integer32),
    ("SampleFmt", "sample_fmt", text),
    ("Channels", "channels", integer32),
    ("ChannelLayout", "channel_layout", text),
)

_VIDEO_STREAM: Fields = (
    *_STREAM,
    ("Profile", "profile", text),
    ("Level", "level", integer32),
    ("PixFmt", "pix_fmt", text),
    ("Width", "width", integer32),
    ("Height", "height", integer32),
    ("Rotate", "rotate", integer32),
    ("Sar", "sar", text),
    ("Dar", "dar", text),
    ("HasBFrames", "has_b_frames", integer32),
    ("Fps", "fps", rate),
    ("AvgFPS", "avg_fps", rate),
    ("HDRType", "hdr_type", text),
)

_PLAY_INFO: Fields = (
    ("Status", "status", text),
    ("StreamType", "stream_type", text),
    ("Format", "format", text),
    ("Definition", "definition", text),
    ("Specification", "specification", text),
    ("NarrowBandType", "narrow_band_type", text),
    ("Width", "width", integer32),
    ("Height", "height", integer32),
    ("Size", "size", integer64),
    ("Duration", "duration", decimal),
    ("Bitrate", "bitrate", decimal),
    ("Fps", "fps", rate),
    ("CodecName", "codec_name", text),
    ("HDRType", "hdr_type", text),
    ("BitDepth", "bit_depth", integer32),
    ("Encrypt", "encrypt", flag),
    ("EncryptType", "encrypt_type", text),
    ("EncryptMode", "encrypt_mode", text),
    ("PlayURL", "play_url", text),
    ("WatermarkId", "watermark_id", text),
    ("JobType", "job_type", text),
    ("JobExt", "job_ext", text),
    ("TemplateId", "template_id", text),
    ("TemplateGroupId", "template_group_id", text),
    ("CreationTime", "created_at", instant),
    ("ModificationTime", "modified_at", instant),
)

#: What tells two children of one medium apart: VOD's name, our attribute, the longest that fits a key.
_INDEX = ("Index", "stream_index", STREAM_INDEX_LENGTH)
_JOB = ("JobId", "job_id", JOB_ID_LENGTH)

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def read_answer(body: object) -> Answer:
    """What one answer of BatchGetMediaInfos says; never raises, whatever JSON value `body` is (vod-protocol 7 and 9.1).

    An element that belongs to no medium, and a list that is none, stand in `Answer.unreadable`; "$" is the body itself. Where two
    elements have the same id, the one with more analysed data stays, and of equals the first.
    """
    if not isinstance(body, dict):
        return Answer(unreadable=("$",))
    unreadable: list[str] = []
    chosen: dict[str, Media] = {}
    for position, element in enumerate(_list(body, "MediaInfos", unreadable)):
        media = read_media(element)
        if media is None:
            unreadable.append(f"MediaInfos[{position}]")
        elif media.media_id not in chosen or _richness(media) > _richness(chosen[media.media_id]):
            chosen[media.media_id] = media
    try:
        request_id = text(clean(body.get("RequestId"))) or ""
    except UnreadableError:
        request_id = ""
    return Answer(
        request_id=request_id,
        media=tuple(chosen.values()),
        missing=_ids(body, "NonExistMediaIds", unreadable),
        missing_references=_ids(body, "NonExistReferenceIds", unreadable),
        forbidden=_ids(body, "ForbiddenMediaIds", unreadable),
        unreadable=tuple(unreadable),
    )


def read_media(element: object) -> Media | None:
    """One element of MediaInfos; None where no id of 1 to 64 characters says whose it is. Never raises.

    A field that cannot be read costs that field, a stream without a key of its own that stream; both are listed in `unreadable`.
    Everything is read from `Media.raw`, so reading that again gives the same Media.
    """
    if not isinstance(element, dict):
        return None
    raw: dict[str, Any] = clean(element)
    # The three ids of one element are the same medium, whatever they say (vod-protocol 7.15).
    media_id = _id(raw, "MediaId") or _id(raw.get("MediaInfo"), "MediaId") or _id(raw.get("MezzanineInfo"), "MediaId")
    if media_id is None or len(media_id) > ID_LENGTH:
        return None
    unreadable: list[str] = []
    info = _object(raw, "MediaInfo", unreadable)
    source = _object(raw, "MezzanineInfo", unreadable)
    return Media(
        media_id=media_id,
        **_typed(info, _MEDIA, "MediaInfo.", unreadable),
        snapshots=_snapshots(info, "MediaInfo.", unreadable),
        mezzanine=Mezzanine(**_typed(source, _MEZZANINE, "MezzanineInfo.", unreadable)) if source else None,
        audio_streams=_children(AudioStream, _AUDIO_STREAM, _INDEX, source, "MezzanineInfo.AudioStreamList", unreadable),
        video_streams=_children(VideoStream, _VIDEO_STREAM, _INDEX, source, "MezzanineInfo.VideoStreamList", unreadable),
        play_infos=_children(PlayInfo, _PLAY_INFO, _JOB, raw, "PlayInfoList", unreadable),
        raw=raw,
        unreadable=tuple(unreadable),
    )


def read_video_info(body: object) -> VideoInfo | None:
    """What GetVideoInfo says, in its older shape (numbers as text, snapshots in an object) and its newer one (vod-protocol 9.7).

    `body` is the whole answer or its Video object; None where it names no medium. Never raises.
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
        **_typed(raw, _VIDEO_INFO, "", unreadable),
        snapshots=_snapshots(raw, "", unreadable),
        raw=raw,
        unreadable=tuple(unreadable),
    )


def content_hash(media: Media) -> str:
    """64 hex digits that are equal for two answers with the same content, in whatever order VOD wrote keys, streams and play infos.

    `media` comes from read_media, so signatures of URLs do not count. The typed values do, as well as the raw ones: a parser that
    reads more than the last release gives another hash, and the rows are written again.
    """
    raw = dict(media.raw)
    _unorder(raw, "PlayInfoList")
    if isinstance(source := raw.get("MezzanineInfo"), dict):
        raw["MezzanineInfo"] = source = dict(source)
        _unorder(source, "AudioStreamList")
        _unorder(source, "VideoStreamList")
    typed = msgspec.structs.replace(
        media,
        audio_streams=tuple(sorted(media.audio_streams, key=lambda stream: stream.stream_index)),
        video_streams=tuple(sorted(media.video_streams, key=lambda stream: stream.stream_index)),
        play_infos=tuple(sorted(media.play_infos, key=lambda play: play.job_id)),
        raw={},
        # Its paths count positions, and it follows from the rest.
        unreadable=(),
    )
    # The fields of our types come in one order; only VOD's own objects need to be put into one.
    return hashlib.sha256(_encode(typed) + _encode_sorted(raw)).hexdigest()


def _typed(source: dict[str, Any], fields: Fields, path: str, unreadable: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, attribute, read in fields:
        said = source.get(name)
        if said is None:
            continue
        try:
            value = read(said)
        except UnreadableError:
            unreadable.append(path + name)
        else:
            if value is not None:
                values.setdefault(attribute, value)
    return values


def _object(raw: dict[str, Any], name: str, unreadable: list[str]) -> dict[str, Any]:
    # VOD may write absent, null and empty alike (vod-protocol 7.16).
    value = raw.get(name) or {}
    if isinstance(value, dict):
        return value
    unreadable.append(name)
    return {}


def _list(source: dict[str, Any], path: str, unreadable: list[str]) -> list[Any]:
    value = source.get(path.rpartition(".")[2]) or []
    if isinstance(value, list):
        return value
    unreadable.append(path)
    return []


def _id(source: object, name: str) -> str | None:
    try:
        return text(source.get(name)) if isinstance(source, dict) else None
    except UnreadableError:
        return None


def _ids(body: dict[str, Any], name: str, unreadable: list[str]) -> frozenset[str]:
    found, whole = field_parsers.texts(clean(body.get(name)), commas=True)
    if not whole:
        unreadable.append(name)
    return frozenset(found or ())


def _snapshots(source: dict[str, Any], path: str, unreadable: list[str]) -> tuple[str, ...] | None:
    found, whole = field_parsers.texts(source.get("Snapshots"), wrapper="Snapshot")
    if not whole:
        unreadable.append(f"{path}Snapshots")
    return found


def _children(
    kind: Any, fields: Fields, key: tuple[str, str, int], source: dict[str, Any], path: str, unreadable: list[str]
) -> tuple[Any, ...]:
    """One `kind` for each element that has a key of its own; the first of two with the same key stays (vod-protocol 7.28)."""
    key_name, attribute, longest = key
    found: dict[str, Any] = {}
    for position, element in enumerate(_list(source, path, unreadable)):
        at = f"{path}[{position}]"
        own = _id(element, key_name)
        if own is None or len(own) > longest or own in found:
            unreadable.append(at)
            continue
        values = _typed(element, fields, f"{at}.", unreadable)
        values[attribute] = own
        found[own] = kind(**values)
    return tuple(found.values())


def _unorder(source: dict[str, Any], name: str) -> None:
    if isinstance(elements := source.get(name), list) and len(elements) > 1:
        source[name] = [msgspec.Raw(encoded) for encoded in sorted(map(_encode_sorted, elements))]


def _richness(media: Media) -> tuple[bool, int]:
    return media.analysed, len(media.audio_streams) + len(media.video_streams) + len(media.play_infos)
