"""create the tables of the rate limit, the workers and the jobs

The workers of one account share a rate limit. `status` needs to know which workers are alive. A long run needs a checkpoint to
continue from after a restart.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
SourceName = sa.String(64)
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in MYSQL.items()}


def upgrade() -> None:
    op.create_table(
        "vod_quota",
        sa.Column("source", SourceName, nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("next_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "operation", name="pk_vod_quota"),
        **MYSQL,
    )

    op.create_table(
        "vod_worker",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=False),
        sa.Column("seen_at", UtcDateTime, nullable=False),
        sa.Column("claimed_at", UtcDateTime),
        sa.PrimaryKeyConstraint("name", name="pk_vod_worker"),
        **MYSQL,
    )

    op.create_table(
        "vod_job",
        sa.Column("id", RowId, sa.Identity(), nullable=False),
        sa.Column("source", SourceName, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("parameters", Json, nullable=False),
        sa.Column("checkpoint", Json),
        sa.Column("counters", Json),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("finished_at", UtcDateTime),
        sa.PrimaryKeyConstraint("id", name="pk_vod_job"),
        **MYSQL,
    )
    op.create_index("ix_vod_job_kind_state_source", "vod_job", ["kind", "state", "source"])


def downgrade() -> None:
    op.drop_table("vod_job")
    op.drop_table("vod_worker")
    op.drop_table("vod_quota")
