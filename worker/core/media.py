"""The types into which VOD's answers are parsed.

Attributes are VOD's field names (vod-protocol 9.2 to 9.7) in snake case, equal to our column names. None means that VOD sent
nothing, an empty value, or a value that cannot be read. Durations and start times are in seconds, bitrates in Kbps, frame rates in
frames per second, sizes in bytes, widths and heights in pixels.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

BATCH_LIMIT = 20  # ids per call of BatchGetMediaInfos (vod-protocol 9.1)

#: The widths of key columns, in characters. VOD's media ids have 32, reference ids up to 64 (vod-protocol 2.1, 9.2), and the Index
#: of a stream has one or two digits.
ID_LENGTH = 64
JOB_ID_LENGTH = 128
STREAM_INDEX_LENGTH = 64


class AudioStream(msgspec.Struct, frozen=True, kw_only=True):
    """One audio stream of the source file (vod-protocol 9.4)."""

    stream_index: str
    codec_name: str | None = None
    codec_long_name: str | None = None
    codec_tag: str | None = None
    codec_tag_string: str | None = None
    codec_time_base: str | None = None
    time_base: str | None = None
    start_time: Decimal | None = None
    start_at: datetime | None = None
    duration: Decimal | None = None
    bitrate: Decimal | None = None
    sample_rate: int | None = None
    sample_fmt: str | None = None
    channels: int | None = None
    channel_layout: str | None = None
    num_frames: int | None = None
    lang: str | None = None


class VideoStream(msgspec.Struct, frozen=True, kw_only=True):
    """One video stream of the source file (vod-protocol 9.5)."""

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
    start_at: datetime | None = None
    duration: Decimal | None = None
    bitrate: Decimal | None = None
    lang: str | None = None
    hdr_type: str | None = None


class Mezzanine(msgspec.Struct, frozen=True, kw_only=True):
    """The source file: VOD's MezzanineInfo without its stream lists (vod-protocol 9.3)."""

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
    """One transcoded stream, with `job_id` as its key (vod-protocol 9.6)."""

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
    """One audio or video asset with its source file, streams and transcoded streams (vod-protocol 9.1, 9.2)."""

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

    #: VOD's element, made storable by `urls.clean`.
    raw: dict[str, Any]
    #: The paths of values inside `raw` that could not be read.
    unreadable: tuple[str, ...] = ()

    @property
    def has_details(self) -> bool:
        """True if VOD sent a field of MediaInfo other than the id."""
        info = self.raw.get("MediaInfo")
        return isinstance(info, dict) and any(value not in (None, "") for name, value in info.items() if name != "MediaId")

    @property
    def is_empty(self) -> bool:
        """True if VOD sent the id of the asset and nothing else."""
        return not (self.has_details or self.mezzanine or self.audio_streams or self.video_streams or self.play_infos)

    @property
    def is_analysed(self) -> bool:
        """True if VOD has analysed the source file, so that a duration or a stream is known."""
        if self.audio_streams or self.video_streams:
            return True
        return self.mezzanine is not None and self.mezzanine.duration is not None

    @property
    def is_source_file_deleted(self) -> bool:
        """True if VOD keeps the asset without its source file (vod-protocol 9.3).

        This is a newer state of an asset. It does not mean that the analysis is missing.
        """
        return self.mezzanine is not None and self.mezzanine.status == "Deleted"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of BatchGetMediaInfos. A requested id that is in none of these fields was not answered."""

    request_id: str = ""
    media: tuple[Media, ...] = ()
    missing: frozenset[str] = frozenset()
    missing_references: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    #: The paths of elements that name no asset ("MediaInfos[3]"), and of lists that are not lists.
    unreadable: tuple[str, ...] = ()


class VideoInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One asset as GetVideoInfo returns it. Only `audit_status` and `region_id` are not in Media as well (vod-protocol 9.7)."""

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
