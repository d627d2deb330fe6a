"""ask the single-video operation first for what is urgent

A live medium waited behind the look-ups of a whole backfill. What is owed already, and what the previous release owes, goes between
the two. Its claim names the index, which therefore keeps its name.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vod_video_info", sa.Column("priority", sa.Integer(), nullable=False, server_default=sa.text("10")))
    _index("priority", "source", "available_at")


def downgrade() -> None:
    _index("source", "available_at")
    op.drop_column("vod_video_info", "priority")


def _index(*columns: str) -> None:
    if op.get_context().dialect.name in ("mysql", "mariadb"):
        # In one statement, because a claim that finds no index of that name fails.
        names = ", ".join(columns)
        op.execute(f"ALTER TABLE vod_video_info DROP INDEX ix_vod_video_info_due, ADD INDEX ix_vod_video_info_due ({names})")
        return
    op.drop_index("ix_vod_video_info_due", "vod_video_info")
    op.create_index("ix_vod_video_info_due", "vod_video_info", list(columns))
