"""note what a long run has listed

Listings give rows twice and in any order. What a run has listed is known by this table, and so is what it has not: the media that
we hold beyond that are the ones to ask for. The rows go when the run is over.
"""

import sqlalchemy as sa
from alembic import op

from worker.store.types import MediaId

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in MYSQL.items()}


def upgrade() -> None:
    op.create_table(
        "vod_listed",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("media_id", MediaId, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "media_id", name="pk_vod_listed"),
        **MYSQL,
    )


def downgrade() -> None:
    op.drop_table("vod_listed")
