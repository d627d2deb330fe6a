"""count how often a sync request was answered with "not yet"

A medium that VOD has not finished is asked for again, after longer and longer pauses. The default serves the previous release,
which does not know the column.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vod_sync_request", sa.Column("waits", sa.Integer(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    op.drop_column("vod_sync_request", "waits")
