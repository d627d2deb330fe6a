"""create the tables of assets, their streams and VOD's last answers

Without them there is nothing to query. Each key contains the source, so that several accounts fit into one database.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ExactDecimal = sa.Numeric(18, 6)
JobId = sa.String(128)
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
LongText = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
MediaId = sa.String(128)
SourceName = sa.String(64)
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in MYSQL.items()}


def upgrade() -> None:
    op.create_table(
        "vod_media",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("title", LongText),
        sa.Column("description", LongText),
        sa.Column("status", LongText),
        sa.Column("cate_id", sa.BigInteger()),
        sa.Column("cate_name", LongText),
        sa.Column("tags", Json),
        sa.Column("cover_url", LongText),
        sa.Column("snapshots", Json),
        sa.Column("created_at", UtcDateTime),
        sa.Column("modified_at", UtcDateTime),
        sa.Column("storage_location", LongText),
        sa.Column("storage_class", LongText),
        sa.Column("restore_status", LongText),
        sa.Column("restore_expiration", UtcDateTime),
        sa.Column("download_switch", LongText),
        sa.Column("template_group_id", LongText),
        sa.Column("app_id", LongText),
        sa.Column("user_data", LongText),
        sa.Column("reference_id", LongText),
        sa.Column("audit_status", LongText),
        sa.Column("region_id", LongText),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("first_seen_at", UtcDateTime, nullable=False),
        sa.Column("observed_at", UtcDateTime, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("deleted_at", UtcDateTime),
        sa.Column("content_hash", sa.String(64)),
        sa.PrimaryKeyConstraint("media_id", "source", name="pk_vod_media"),
        **MYSQL,
    )
    op.create_index("ix_vod_media_created_at_source", "vod_media", ["created_at", "source"])
    op.create_index("ix_vod_media_state_source", "vod_media", ["state", "source"])

    op.create_table(
        "vod_mezzanine",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("status", LongText),
        sa.Column("file_name", LongText),
        sa.Column("file_url", LongText),
        sa.Column("file_md5", LongText),
        sa.Column("created_at", UtcDateTime),
        sa.Column("size", sa.BigInteger()),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("duration", ExactDecimal),
        sa.Column("bitrate", ExactDecimal),
        sa.Column("fps", ExactDecimal),
        sa.PrimaryKeyConstraint("media_id", "source", name="pk_vod_mezzanine"),
        **MYSQL,
    )

    op.create_table(
        "vod_audio_stream",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("stream_index", sa.String(64), nullable=False),
        sa.Column("codec_name", LongText),
        sa.Column("codec_long_name", LongText),
        sa.Column("codec_tag", LongText),
        sa.Column("codec_tag_string", LongText),
        sa.Column("codec_time_base", LongText),
        sa.Column("time_base", LongText),
        sa.Column("start_time", ExactDecimal),
        sa.Column("duration", ExactDecimal),
        sa.Column("bitrate", ExactDecimal),
        sa.Column("sample_rate", sa.Integer()),
        sa.Column("sample_fmt", LongText),
        sa.Column("channels", sa.Integer()),
        sa.Column("channel_layout", LongText),
        sa.Column("num_frames", sa.BigInteger()),
        sa.Column("lang", LongText),
        sa.PrimaryKeyConstraint("media_id", "source", "stream_index", name="pk_vod_audio_stream"),
        **MYSQL,
    )

    op.create_table(
        "vod_video_stream",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("stream_index", sa.String(64), nullable=False),
        sa.Column("codec_name", LongText),
        sa.Column("codec_long_name", LongText),
        sa.Column("codec_tag", LongText),
        sa.Column("codec_tag_string", LongText),
        sa.Column("codec_time_base", LongText),
        sa.Column("time_base", LongText),
        sa.Column("profile", LongText),
        sa.Column("level", sa.Integer()),
        sa.Column("pix_fmt", LongText),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("rotate", sa.Integer()),
        sa.Column("sar", LongText),
        sa.Column("dar", LongText),
        sa.Column("has_b_frames", sa.Integer()),
        sa.Column("fps", ExactDecimal),
        sa.Column("avg_fps", ExactDecimal),
        sa.Column("num_frames", sa.BigInteger()),
        sa.Column("start_time", ExactDecimal),
        sa.Column("duration", ExactDecimal),
        sa.Column("bitrate", ExactDecimal),
        sa.Column("lang", LongText),
        sa.Column("hdr_type", LongText),
        sa.PrimaryKeyConstraint("media_id", "source", "stream_index", name="pk_vod_video_stream"),
        **MYSQL,
    )

    op.create_table(
        "vod_play_info",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("job_id", JobId, nullable=False),
        sa.Column("status", LongText),
        sa.Column("stream_type", LongText),
        sa.Column("format", LongText),
        sa.Column("definition", LongText),
        sa.Column("specification", LongText),
        sa.Column("narrow_band_type", LongText),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("size", sa.BigInteger()),
        sa.Column("duration", ExactDecimal),
        sa.Column("bitrate", ExactDecimal),
        sa.Column("fps", ExactDecimal),
        sa.Column("codec_name", LongText),
        sa.Column("hdr_type", LongText),
        sa.Column("bit_depth", sa.Integer()),
        sa.Column("encrypt", sa.Boolean()),
        sa.Column("encrypt_type", LongText),
        sa.Column("encrypt_mode", LongText),
        sa.Column("play_url", LongText),
        sa.Column("watermark_id", LongText),
        sa.Column("job_type", LongText),
        sa.Column("job_ext", LongText),
        sa.Column("template_id", LongText),
        sa.Column("template_group_id", LongText),
        sa.Column("created_at", UtcDateTime),
        sa.Column("modified_at", UtcDateTime),
        sa.PrimaryKeyConstraint("media_id", "source", "job_id", name="pk_vod_play_info"),
        **MYSQL,
    )

    op.create_table(
        "vod_raw",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("answer", Json, nullable=False),
        sa.Column("unreadable", Json, nullable=False),
        sa.PrimaryKeyConstraint("media_id", "source", name="pk_vod_raw"),
        **MYSQL,
    )


def downgrade() -> None:
    op.drop_table("vod_raw")
    op.drop_table("vod_play_info")
    op.drop_table("vod_video_stream")
    op.drop_table("vod_audio_stream")
    op.drop_table("vod_mezzanine")
    op.drop_table("vod_media")
