"""store which assets need a call of GetVideoInfo

A thread of its own makes these calls after the batch. The rows keep a call due if the worker is killed, and keep the whole answer,
of which vod_media has two columns.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
LongText = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
MediaId = sa.String(128)
SourceName = sa.String(64)
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in MYSQL.items()}


def upgrade() -> None:
    op.create_table(
        "vod_video_info",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("requested_at", UtcDateTime, nullable=False),
        sa.Column("available_at", UtcDateTime),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", LongText),
        sa.Column("claim", sa.String(32)),
        sa.Column("answer", Json),
        sa.Column("unreadable", Json),
        sa.Column("observed_at", UtcDateTime),
        sa.PrimaryKeyConstraint("media_id", "source", name="pk_vod_video_info"),
        **MYSQL,
    )
    op.create_index("ix_vod_video_info_due", "vod_video_info", ["priority", "source", "available_at"])


def downgrade() -> None:
    op.drop_table("vod_video_info")
