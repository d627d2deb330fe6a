"""Which field of VOD fills which attribute of our types, and how its value is parsed (vod-protocol 9.2 to 9.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from worker.core.field_parsers import (
    boolean,
    decimal,
    frame_rate,
    integer32,
    integer64,
    start_date,
    start_offset,
    tags,
    text,
    text_or_object,
    utc_time,
)
from worker.core.media import JOB_ID_LENGTH, STREAM_INDEX_LENGTH, AudioStream, PlayInfo, VideoStream

#: VOD's field name, our attribute, and the parser of the value. If two fields fill one attribute, the first one with a value wins.
Fields = tuple[tuple[str, str, Callable[[object], Any]], ...]

Item = TypeVar("Item", AudioStream, VideoStream, PlayInfo)


class ListFields(NamedTuple, Generic[Item]):
    """How the elements of a list are parsed. `key` is VOD's name of the field that identifies an element within its asset."""

    item: type[Item]
    key: str
    key_attribute: str
    max_key_length: int  # characters
    fields: Fields


MEDIA: Fields = (
    ("Title", "title", text),
    ("Description", "description", text),
    ("Status", "status", text),
    ("CateId", "cate_id", integer64),
    ("CateName", "cate_name", text),
    ("Tags", "tags", tags),
    ("CoverURL", "cover_url", text),
    ("CreationTime", "created_at", utc_time),
    ("ModificationTime", "modified_at", utc_time),
    ("StorageLocation", "storage_location", text),
    ("StorageClass", "storage_class", text),
    ("RestoreStatus", "restore_status", text),
    ("RestoreExpiration", "restore_expiration", utc_time),
    ("DownloadSwitch", "download_switch", text),
    ("TemplateGroupId", "template_group_id", text),
    ("AppId", "app_id", text),
    ("UserData", "user_data", text_or_object),
    ("ReferenceId", "reference_id", text),
)

VIDEO_INFO: Fields = (
    *MEDIA,
    ("AuditStatus", "audit_status", text),
    ("RegionId", "region_id", text),
    ("Size", "size", integer64),
    ("Duration", "duration", decimal),
    ("CustomMediaInfo", "custom_media_info", text_or_object),
)

MEZZANINE: Fields = (
    ("Status", "status", text),
    ("FileName", "file_name", text),
    ("FileURL", "file_url", text),
    ("FileMD5", "file_md5", text),
    ("CreationTime", "created_at", utc_time),
    ("Size", "size", integer64),
    ("Width", "width", integer32),
    ("Height", "height", integer32),
    ("Duration", "duration", decimal),
    ("Bitrate", "bitrate", decimal),
    ("Fps", "fps", frame_rate),
)

_STREAM: Fields = (
    ("CodecName", "codec_name", text),
    ("CodecLongName", "codec_long_name", text),
    ("CodecTag", "codec_tag", text),
    ("CodecTagString", "codec_tag_string", text),
    ("CodecTimeBase", "codec_time_base", text),
    ("Timebase", "time_base", text),
    # The documents call it a date. VOD sends an offset in seconds (vod-protocol 7.5).
    ("StartTime", "start_time", start_offset),
    ("StartTime", "start_at", start_date),
    ("Duration", "duration", decimal),
    ("Bitrate", "bitrate", decimal),
    ("NumFrames", "num_frames", integer64),
    ("Lang", "lang", text),
)

AUDIO_STREAM = ListFields(
    AudioStream,
    key="Index",
    key_attribute="stream_index",
    max_key_length=STREAM_INDEX_LENGTH,
    fields=(
        *_STREAM,
        # Other operations spell it in the second way (vod-protocol 7.13).
        ("SampleRate", "sample_rate", integer32),
        ("Samplerate", "sample_rate", integer32),
        ("SampleFmt", "sample_fmt", text),
        ("Channels", "channels", integer32),
        ("ChannelLayout", "channel_layout", text),
    ),
)

VIDEO_STREAM = ListFields(
    VideoStream,
    key="Index",
    key_attribute="stream_index",
    max_key_length=STREAM_INDEX_LENGTH,
    fields=(
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
        ("Fps", "fps", frame_rate),
        ("AvgFPS", "avg_fps", frame_rate),
        ("HDRType", "hdr_type", text),
    ),
)

PLAY_INFO = ListFields(
    PlayInfo,
    key="JobId",
    key_attribute="job_id",
    max_key_length=JOB_ID_LENGTH,
    fields=(
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
        ("Fps", "fps", frame_rate),
        ("CodecName", "codec_name", text),
        ("HDRType", "hdr_type", text),
        ("BitDepth", "bit_depth", integer32),
        ("Encrypt", "encrypt", boolean),
        ("EncryptType", "encrypt_type", text),
        ("EncryptMode", "encrypt_mode", text),
        ("PlayURL", "play_url", text),
        ("WatermarkId", "watermark_id", text),
        ("JobType", "job_type", text),
        ("JobExt", "job_ext", text),
        ("TemplateId", "template_id", text),
        ("TemplateGroupId", "template_group_id", text),
        ("CreationTime", "created_at", utc_time),
        ("ModificationTime", "modified_at", utc_time),
    ),
)
