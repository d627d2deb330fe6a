"""store changes until the broker has them

With VODSYNC_CHANGES=on, each change of an asset is a row that is committed together with the change and deleted when the broker has
accepted it. The lease belongs to the one worker that may publish.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
MediaId = sa.String(128)
SourceName = sa.String(64)
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in MYSQL.items()}


def upgrade() -> None:
    op.create_table(
        "vod_change",
        sa.Column("id", RowId, sa.Identity(), nullable=False),
        sa.Column("source", SourceName, nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.Column("change", sa.String(16), nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("fields", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_vod_change"),
        # Without this SQLite reuses the ids of deleted rows.
        sqlite_autoincrement=True,
        **MYSQL,
    )

    op.create_table(
        "vod_lease",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_vod_lease"),
        **MYSQL,
    )


def downgrade() -> None:
    op.drop_table("vod_lease")
    op.drop_table("vod_change")
