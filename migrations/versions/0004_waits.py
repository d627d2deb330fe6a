"""count the answers of VOD that were not final

An asset that VOD has not finished is fetched again, after pauses that grow with this count. The previous release does not know the
column, so it has a default.
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
