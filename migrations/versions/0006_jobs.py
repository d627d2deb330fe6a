"""let workers share long runs over the library

A job is claimed like a sync request: a worker has a lease on it, and another worker continues it when the lease expires. `running`
contains the source and kind until the job ends, so that a second job of the same kind is refused.

The new tables survive a restart: when a scheduled run is due, what a job has listed (a listing contains rows twice and in any
order), and the assets that no listing contained.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LongText = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
MediaId = sa.String(128)
SourceName = sa.String(64)
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in MYSQL.items()}


def upgrade() -> None:
    op.add_column("vod_job", sa.Column("running", sa.String(128)))
    op.add_column("vod_job", sa.Column("claim", sa.String(32)))
    op.add_column("vod_job", sa.Column("available_at", UtcDateTime))
    op.add_column("vod_job", sa.Column("last_error", LongText))
    op.create_index("ix_vod_job_running", "vod_job", ["running"], unique=True)
    op.create_table(
        "vod_schedule",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("due_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("source", "name", name="pk_vod_schedule"),
        **MYSQL,
    )
    op.create_table(
        "vod_listed",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "media_id", name="pk_vod_listed"),
        **MYSQL,
    )
    op.create_table(
        "vod_suspect",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("gone", sa.Boolean()),
        sa.PrimaryKeyConstraint("media_id", "source", name="pk_vod_suspect"),
        **MYSQL,
    )


def downgrade() -> None:
    op.drop_table("vod_suspect")
    op.drop_table("vod_listed")
    op.drop_table("vod_schedule")
    op.drop_index("ix_vod_job_running", "vod_job")
    for column in ("last_error", "available_at", "claim", "running"):
        op.drop_column("vod_job", column)
