"""The columns for every documented field of VOD (vod-protocol 9.2 to 9.6), written independently of `worker`.

Each table maps VOD's field to the column and the function that converts VOD's value into the expected value of the column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

Reader = Callable[[Any], Any]
Fields = Mapping[str, tuple[str, Reader]]


def text(value: Any) -> str | None:
    return None if value is None else str(value).strip() or None


def whole(value: Any) -> int | None:
    return None if text(value) is None else int(str(value))


def exact(value: Any) -> Decimal | None:
    written = text(value)
    if written is None or written == "0/0":
        return None
    millionths = round(Fraction(written) * 10**6)
    return Decimal(millionths).scaleb(-6)


def switch(value: Any) -> bool | None:
    return None if text(value) is None else str(value) in ("1", "True", "true")


def instant(value: Any) -> datetime | None:
    written = text(value)
    return None if written is None else datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def tag_list(value: Any) -> list[str] | None:
    return None if text(value) is None else [part.strip() for part in value.split(",") if part.strip()]


def url_list(value: Any) -> list[str] | None:
    if value is None:
        return None
    is_packed = len(value) == 1 and value[0].startswith("[")
    urls: list[str] = json.loads(value[0]) if is_packed else value
    return urls


MEDIA_INFO: Fields = {
    "MediaId": ("media_id", text),
    "Title": ("title", text),
    "Description": ("description", text),
    "Status": ("status", text),
    "CateId": ("cate_id", whole),
    "CateName": ("cate_name", text),
    "Tags": ("tags", tag_list),
    "CoverURL": ("cover_url", text),
    "Snapshots": ("snapshots", url_list),
    "CreationTime": ("created_at", instant),
    "ModificationTime": ("modified_at", instant),
    "StorageLocation": ("storage_location", text),
    "StorageClass": ("storage_class", text),
    "RestoreStatus": ("restore_status", text),
    "RestoreExpiration": ("restore_expiration", instant),
    "DownloadSwitch": ("download_switch", text),
    "TemplateGroupId": ("template_group_id", text),
    "AppId": ("app_id", text),
    "UserData": ("user_data", text),
    "ReferenceId": ("reference_id", text),
}

#: Without MediaId, because the outer one has precedence (vod-protocol 7.15), and without the two lists, which are tables.
MEZZANINE_INFO: Fields = {
    "Status": ("status", text),
    "FileName": ("file_name", text),
    "FileURL": ("file_url", text),
    "FileMD5": ("file_md5", text),
    "CreationTime": ("created_at", instant),
    "Size": ("size", whole),
    "Width": ("width", whole),
    "Height": ("height", whole),
    "Duration": ("duration", exact),
    "Bitrate": ("bitrate", exact),
    "Fps": ("fps", exact),
}

AUDIO_STREAM: Fields = {
    "Index": ("stream_index", text),
    "CodecName": ("codec_name", text),
    "CodecLongName": ("codec_long_name", text),
    "CodecTag": ("codec_tag", text),
    "CodecTagString": ("codec_tag_string", text),
    "CodecTimeBase": ("codec_time_base", text),
    "Timebase": ("time_base", text),
    "StartTime": ("start_time", exact),
    "Duration": ("duration", exact),
    "Bitrate": ("bitrate", exact),
    "SampleRate": ("sample_rate", whole),
    "SampleFmt": ("sample_fmt", text),
    "Channels": ("channels", whole),
    "ChannelLayout": ("channel_layout", text),
    "NumFrames": ("num_frames", whole),
    "Lang": ("lang", text),
}

VIDEO_STREAM: Fields = {
    "Index": ("stream_index", text),
    "CodecName": ("codec_name", text),
    "CodecLongName": ("codec_long_name", text),
    "CodecTag": ("codec_tag", text),
    "CodecTagString": ("codec_tag_string", text),
    "CodecTimeBase": ("codec_time_base", text),
    "Timebase": ("time_base", text),
    "Profile": ("profile", text),
    "Level": ("level", whole),
    "PixFmt": ("pix_fmt", text),
    "Width": ("width", whole),
    "Height": ("height", whole),
    "Rotate": ("rotate", whole),
    "Sar": ("sar", text),
    "Dar": ("dar", text),
    "HasBFrames": ("has_b_frames", whole),
    "Fps": ("fps", exact),
    "AvgFPS": ("avg_fps", exact),
    "NumFrames": ("num_frames", whole),
    "StartTime": ("start_time", exact),
    "Duration": ("duration", exact),
    "Bitrate": ("bitrate", exact),
    "Lang": ("lang", text),
    "HDRType": ("hdr_type", text),
}

PLAY_INFO: Fields = {
    "JobId": ("job_id", text),
    "Status": ("status", text),
    "StreamType": ("stream_type", text),
    "Format": ("format", text),
    "Definition": ("definition", text),
    "Specification": ("specification", text),
    "NarrowBandType": ("narrow_band_type", text),
    "Width": ("width", whole),
    "Height": ("height", whole),
    "Size": ("size", whole),
    "Duration": ("duration", exact),
    "Bitrate": ("bitrate", exact),
    "Fps": ("fps", exact),
    "CodecName": ("codec_name", text),
    "HDRType": ("hdr_type", text),
    "BitDepth": ("bit_depth", whole),
    "Encrypt": ("encrypt", switch),
    "EncryptType": ("encrypt_type", text),
    "EncryptMode": ("encrypt_mode", text),
    "PlayURL": ("play_url", text),
    "WatermarkId": ("watermark_id", text),
    "JobType": ("job_type", text),
    "JobExt": ("job_ext", text),
    "TemplateId": ("template_id", text),
    "TemplateGroupId": ("template_group_id", text),
    "CreationTime": ("created_at", instant),
    "ModificationTime": ("modified_at", instant),
}


def expected(element: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the columns that must be stored for an object of VOD's answer."""
    # Transcode reports write Samplerate (vod-protocol 7.13).
    element = element | ({"SampleRate": element["Samplerate"]} if "Samplerate" in element else {})
    return {column: read(element.get(name)) for name, (column, read) in fields.items()}


def stored(row: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the columns of a row with the types of the readers."""
    return {column: _comparable(row[column], read) for column, read in fields.values()}


def _comparable(value: Any, read: Reader) -> Any:
    """Convert a value from the database to the type of its reader: the three databases return different types."""
    if value is None:
        return None
    if read is instant:
        time: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if read is exact:
        return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if read is switch:
        return bool(value)
    if read in (tag_list, url_list):
        return as_json(value)
    return value


def as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
