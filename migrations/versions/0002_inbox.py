"""create the tables of notifications and sync requests

The receiver commits a row in each of them before it answers 200. Workers claim sync requests in the order of the index.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LongText = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
MediaId = sa.String(128)
SourceName = sa.String(64)
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in MYSQL.items()}


def upgrade() -> None:
    op.create_table(
        "vod_notification",
        sa.Column("id", RowId, sa.Identity(), nullable=False),
        sa.Column("source", SourceName, nullable=False),
        sa.Column("event_key", sa.String(64), nullable=False),
        sa.Column("event_type", sa.String(128)),
        sa.Column("media_id", MediaId),
        sa.Column("event_time", UtcDateTime),
        sa.Column("status", sa.String(64)),
        sa.Column("body", LongText, nullable=False),
        sa.Column("received_at", UtcDateTime, nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_vod_notification"),
        sa.UniqueConstraint("event_key", "source", name="uq_vod_notification_event_key_source"),
        **MYSQL,
    )
    op.create_index("ix_vod_notification_media_id_source", "vod_notification", ["media_id", "source"])

    op.create_table(
        "vod_sync_request",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("requested_at", UtcDateTime, nullable=False),
        sa.Column("available_at", UtcDateTime, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", LongText),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("claim", sa.String(32)),
        sa.PrimaryKeyConstraint("media_id", "source", name="pk_vod_sync_request"),
        **MYSQL,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_vod_sync_request_due", "vod_sync_request", ["state", "priority", "source", "available_at"])


def downgrade() -> None:
    op.drop_table("vod_sync_request")
    op.drop_table("vod_notification")
