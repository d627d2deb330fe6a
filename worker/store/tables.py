"""Define the tables. Their names and columns are part of the public contract (docs/contract.md)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    text,
)

from worker.store.types import ExactDecimal, JobId, Json, LongText, MediaId, SourceName, UtcDateTime

# Keys of assets begin with the column that distinguishes rows best, not with the source, which has few values. Until PostgreSQL has
# statistics it assumes that all columns distinguish rows equally well, and would read the whole table through an index that begins
# with source.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# Ids that differ only in case are different, so texts are compared byte by byte. utf8mb4 accepts every alphabet.
_MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in _MYSQL.items()}

#: SQLite generates ids only for a column of type INTEGER.
_RowId = BigInteger().with_variant(Integer(), "sqlite")


def _table(name: str, *columns: Any, **options: Any) -> Table:
    return Table(name, metadata, *columns, **_MYSQL, **options)


def _asset_key() -> list[Column[Any]]:
    return [Column("source", SourceName, nullable=False), Column("media_id", MediaId, nullable=False)]


def _texts(*names: str) -> list[Column[Any]]:
    return [Column(name, LongText) for name in names]


def _integers(*names: str) -> list[Column[Any]]:
    return [Column(name, Integer) for name in names]


def _sizes(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger) for name in names]


def _decimals(*names: str) -> list[Column[Any]]:
    return [Column(name, ExactDecimal) for name in names]


def _times(*names: str) -> list[Column[Any]]:
    return [Column(name, UtcDateTime) for name in names]


media = _table(
    "vod_media",
    *_asset_key(),
    *_texts("title", "description", "status"),
    *_sizes("cate_id"),
    *_texts("cate_name"),
    Column("tags", Json),
    *_texts("cover_url"),
    Column("snapshots", Json),
    *_times("created_at", "modified_at"),
    *_texts("storage_location", "storage_class", "restore_status"),
    *_times("restore_expiration"),
    *_texts("download_switch", "template_group_id", "app_id", "user_data", "reference_id"),
    *_texts("audit_status", "region_id"),
    Column("state", String(16), nullable=False),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("observed_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    *_times("deleted_at"),
    Column("content_hash", String(64)),
    PrimaryKeyConstraint("media_id", "source"),
    Index(None, "state", "source"),
    Index(None, "created_at", "source"),
)

mezzanine = _table(
    "vod_mezzanine",
    *_asset_key(),
    *_texts("status", "file_name", "file_url", "file_md5"),
    *_times("created_at"),
    *_sizes("size"),
    *_integers("width", "height"),
    *_decimals("duration", "bitrate", "fps"),
    PrimaryKeyConstraint("media_id", "source"),
)

audio_stream = _table(
    "vod_audio_stream",
    *_asset_key(),
    Column("stream_index", String(64), nullable=False),
    *_texts("codec_name", "codec_long_name", "codec_tag", "codec_tag_string", "codec_time_base", "time_base"),
    *_decimals("start_time", "duration", "bitrate"),
    Column("start_at", UtcDateTime),
    *_integers("sample_rate"),
    *_texts("sample_fmt"),
    *_integers("channels"),
    *_texts("channel_layout"),
    *_sizes("num_frames"),
    *_texts("lang"),
    PrimaryKeyConstraint("media_id", "source", "stream_index"),
)

video_stream = _table(
    "vod_video_stream",
    *_asset_key(),
    Column("stream_index", String(64), nullable=False),
    *_texts("codec_name", "codec_long_name", "codec_tag", "codec_tag_string", "codec_time_base", "time_base", "profile"),
    *_integers("level"),
    *_texts("pix_fmt"),
    *_integers("width", "height", "rotate"),
    *_texts("sar", "dar"),
    *_integers("has_b_frames"),
    *_decimals("fps", "avg_fps"),
    *_sizes("num_frames"),
    *_decimals("start_time", "duration", "bitrate"),
    Column("start_at", UtcDateTime),
    *_texts("lang", "hdr_type"),
    PrimaryKeyConstraint("media_id", "source", "stream_index"),
)

play_info = _table(
    "vod_play_info",
    *_asset_key(),
    Column("job_id", JobId, nullable=False),
    *_texts("status", "stream_type", "format", "definition", "specification", "narrow_band_type"),
    *_integers("width", "height"),
    *_sizes("size"),
    *_decimals("duration", "bitrate", "fps"),
    *_texts("codec_name", "hdr_type"),
    *_integers("bit_depth"),
    Column("encrypt", Boolean),
    *_texts("encrypt_type", "encrypt_mode", "play_url", "watermark_id", "job_type", "job_ext", "template_id", "template_group_id"),
    *_times("created_at", "modified_at"),
    PrimaryKeyConstraint("media_id", "source", "job_id"),
)

raw = _table(
    "vod_raw",
    *_asset_key(),
    Column("answer", Json, nullable=False),
    Column("unreadable", Json, nullable=False),
    PrimaryKeyConstraint("media_id", "source"),
)

video_info = _table(
    "vod_video_info",
    *_asset_key(),
    Column("requested_at", UtcDateTime, nullable=False),
    #: When GetVideoInfo is due for this asset. NULL: its answer is stored, or it was given up on.
    *_times("available_at"),
    #: The priority of the sync request whose fetch enqueued it.
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    *_texts("last_error"),
    #: The token of the claim on this row, which ends at `available_at`.
    Column("claim", String(32)),
    Column("answer", Json),
    Column("unreadable", Json),
    *_times("observed_at"),
    PrimaryKeyConstraint("media_id", "source"),
    Index("ix_vod_video_info_due", "priority", "source", "available_at"),
)

notification = _table(
    "vod_notification",
    Column("id", _RowId, Identity(), nullable=False),
    Column("source", SourceName, nullable=False),
    Column("event_key", String(64), nullable=False),
    Column("event_type", String(128)),
    Column("media_id", MediaId),
    Column("event_time", UtcDateTime),
    Column("status", String(64)),
    Column("body", LongText, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("deliveries", Integer, nullable=False),
    #: Whether it reports that a whole asset was deleted. NULL: recorded by a release without this column; the body decides.
    Column("deletes", Boolean),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("event_key", "source"),
    Index(None, "media_id", "source"),
)

sync_request = _table(
    "vod_sync_request",
    *_asset_key(),
    Column("reason", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("available_at", UtcDateTime, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("waits", Integer, nullable=False, server_default=text("0")),
    Column("last_error", LongText),
    Column("state", String(8), nullable=False),
    #: The token of the claim on this row, which ends at `available_at`.
    Column("claim", String(32)),
    PrimaryKeyConstraint("media_id", "source"),
    # A claim reads each priority in the order of this index; a sort would lock every candidate on MariaDB.
    Index("ix_vod_sync_request_due", "state", "priority", "source", "available_at"),
    sqlite_with_rowid=False,
)

job = _table(
    "vod_job",
    Column("id", _RowId, Identity(), nullable=False),
    Column("source", SourceName, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("parameters", Json, nullable=False),
    Column("checkpoint", Json),
    Column("counters", Json),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    *_times("finished_at"),
    #: The kind and source until the job ends, so that two of the same kind cannot run at once.
    Column("running", String(128)),
    #: The token of the worker that has claimed it, until `available_at`.
    Column("claim", String(32)),
    *_times("available_at"),
    *_texts("last_error"),
    PrimaryKeyConstraint("id"),
    Index(None, "kind", "state", "source"),
    Index(None, "running", unique=True),
)

schedule = _table(
    "vod_schedule",
    Column("source", SourceName, nullable=False),
    Column("name", String(32), nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("source", "name"),
)

#: Stored assets that a listing of the library did not contain. `gone`: VOD answered that it does not know the asset.
suspect = _table(
    "vod_suspect",
    *_asset_key(),
    Column("gone", Boolean),
    PrimaryKeyConstraint("media_id", "source"),
)

#: The assets that a job has listed, until it ends.
listed = _table(
    "vod_listed",
    Column("job_id", BigInteger, nullable=False),
    Column("media_id", MediaId, nullable=False),
    PrimaryKeyConstraint("job_id", "media_id"),
)

quota = _table(
    "vod_quota",
    Column("source", SourceName, nullable=False),
    Column("operation", String(64), nullable=False),
    #: The next call may start then; microseconds since 1970 of the database's clock.
    Column("next_at_us", BigInteger, nullable=False),
    #: When the last calls started or will start, in ascending order and in the same unit.
    Column("started_us", Json),
    #: The last error of a source whose calls fail; NULL while they succeed.
    Column("fault", LongText),
    *_times("fault_at"),
    PrimaryKeyConstraint("source", "operation"),
)

worker = _table(
    "vod_worker",
    Column("name", String(255), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    *_times("claimed_at"),
    PrimaryKeyConstraint("name"),
)

change = _table(
    "vod_change",
    Column("id", _RowId, Identity(), nullable=False),
    Column("source", SourceName, nullable=False),
    Column("media_id", MediaId, nullable=False),
    Column("change", String(16), nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    #: Names of columns and parts, never their values.
    Column("fields", Json, nullable=False),
    PrimaryKeyConstraint("id"),
    # Without this SQLite reuses the ids of deleted rows, and deleting a published change by its id could delete another one.
    sqlite_autoincrement=True,
)

lease = _table(
    "vod_lease",
    Column("name", String(64), nullable=False),
    Column("holder", String(64), nullable=False),
    #: Microseconds since 1970 of the database's clock.
    Column("until_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("name"),
)
