"""Our media types: what we believe about one medium after reading VOD's answer.

Attribute names are the column names of vod-protocol section 9 in snake case. None stands for "not said, empty or unreadable".
Durations and start times are in seconds, bitrates in Kbps, frame rates in frames per second, sizes in bytes, lengths in pixels.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

#: A batch of BatchGetMediaInfos takes at most this many ids (vod-protocol 9.1).
BATCH_LIMIT = 20

#: The longest id that we store; VOD's are 32 characters, reference ids up to 64 (vod-protocol 2.1, 9.2).
ID_LENGTH = 64

#: The longest JobId that can be part of a key.
JOB_ID_LENGTH = 128

#: The longest Index of a stream that can be part of a key; VOD's are one or two digits.
STREAM_INDEX_LENGTH = 64


class AudioStream(msgspec.Struct, frozen=True, kw_only=True):
    stream_index: str
    codec_name: str | None = None
    codec_long_name: str | None = None
    codec_tag: str | None = None
    codec_tag_string: str | None = None
    codec_time_base: str | None = None
    time_base: str | None = None
    start_time: Decimal | None = None
    duration: Decimal | None = None
    bitrate: Decimal | None = None
    sample_rate: int | None = None
    sample_fmt: str | None = None
    channels: int | None = None
    channel_layout: str | None = None
    num_frames: int | None = None
    lang: str | None = None


class VideoStream(msgspec.Struct, frozen=True, kw_only=True):
    stream_index: str
    codec_name: str | None = None
    codec_long_name: str | None = None
    codec_tag: str | None = None
    codec_tag_string: str | None = None
    codec_time_base: str | None = None
    time_base: str | None = None
    profile: str | None = None
    level: int | None = None
    pix_fmt: str | None = None
    width: int | None = None
    height: int | None = None
    rotate: int | None = None
    sar: str | None = None
    dar: str | None = None
    has_b_frames: int | None = None
    fps: Decimal | None = None
    avg_fps: Decimal | None = None
    num_frames: int | None = None
    start_time: Decimal | None = None
    duration: Decimal | None = None
    bitrate: Decimal | None = None
    lang: str | None = None
    hdr_type: str | None = None


class Mezzanine(msgspec.Struct, frozen=True, kw_only=True):
    """The source file (VOD's MezzanineInfo without its stream lists)."""

    status: str | None = None
    file_name: str | None = None
    file_url: str | None = None
    file_md5: str | None = None
    created_at: datetime | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    duration: Decimal | None = None
    bitrate: Decimal | None = None
    fps: Decimal | None = None


class PlayInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One transcoded stream, known by its `job_id`."""

    job_id: str
    status: str | None = None
    stream_type: str | None = None
    format: str | None = None
    definition: str | None = None
    specification: str | None = None
    narrow_band_type: str | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None
    duration: Decimal | None = None
    bitrate: Decimal | None = None
    fps: Decimal | None = None
    codec_name: str | None = None
    hdr_type: str | None = None
    bit_depth: int | None = None
    encrypt: bool | None = None
    encrypt_type: str | None = None
    encrypt_mode: str | None = None
    play_url: str | None = None
    watermark_id: str | None = None
    job_type: str | None = None
    job_ext: str | None = None
    template_id: str | None = None
    template_group_id: str | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """One medium whole. `raw` is VOD's element with signatures removed, `unreadable` the paths inside it that stayed untyped."""

    media_id: str
    title: str | None = None
    description: str | None = None
    status: str | None = None
    cate_id: int | None = None
    cate_name: str | None = None
    tags: tuple[str, ...] | None = None
    cover_url: str | None = None
    snapshots: tuple[str, ...] | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    storage_location: str | None = None
    storage_class: str | None = None
    restore_status: str | None = None
    restore_expiration: datetime | None = None
    download_switch: str | None = None
    template_group_id: str | None = None
    app_id: str | None = None
    user_data: str | None = None
    reference_id: str | None = None

    mezzanine: Mezzanine | None = None
    audio_streams: tuple[AudioStream, ...] = ()
    video_streams: tuple[VideoStream, ...] = ()
    play_infos: tuple[PlayInfo, ...] = ()

    raw: dict[str, Any]
    unreadable: tuple[str, ...] = ()

    @property
    def described(self) -> bool:
        """True where VOD says something of the medium itself, beyond its id."""
        info = self.raw.get("MediaInfo")
        return isinstance(info, dict) and any(value not in (None, "") for name, value in info.items() if name != "MediaId")

    @property
    def empty(self) -> bool:
        """True where VOD names the medium and says nothing of it."""
        return not (self.described or self.mezzanine or self.audio_streams or self.video_streams or self.play_infos)

    @property
    def analysed(self) -> bool:
        """True where VOD has looked into the source file: a duration or a stream is known."""
        if self.audio_streams or self.video_streams:
            return True
        return self.mezzanine is not None and self.mezzanine.duration is not None

    @property
    def source_deleted(self) -> bool:
        """True where VOD keeps the medium without its source file (vod-protocol 9.3): a newer state, not a missing analysis."""
        return self.mezzanine is not None and self.mezzanine.status == "Deleted"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of BatchGetMediaInfos. Ids are VOD's; an id that was asked for and stands nowhere here was not answered."""

    request_id: str = ""
    media: tuple[Media, ...] = ()
    missing: frozenset[str] = frozenset()
    missing_references: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    #: Elements of the answer that could not be attributed to any medium, as paths ("MediaInfos[3]").
    unreadable: tuple[str, ...] = ()


class VideoInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What GetVideoInfo says of one medium; only `audit_status` and `region_id` go beyond Media (vod-protocol 9.7)."""

    media_id: str
    audit_status: str | None = None
    region_id: str | None = None
    title: str | None = None
    description: str | None = None
    status: str | None = None
    cate_id: int | None = None
    cate_name: str | None = None
    tags: tuple[str, ...] | None = None
    cover_url: str | None = None
    snapshots: tuple[str, ...] | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    size: int | None = None
    duration: Decimal | None = None
    storage_location: str | None = None
    storage_class: str | None = None
    restore_status: str | None = None
    restore_expiration: datetime | None = None
    download_switch: str | None = None
    template_group_id: str | None = None
    app_id: str | None = None
    user_data: str | None = None
    reference_id: str | None = None
    custom_media_info: str | None = None

    raw: dict[str, Any]
    unreadable: tuple[str, ...] = ()
