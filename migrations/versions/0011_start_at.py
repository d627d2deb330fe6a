"""store the start of a stream that VOD sends as a date

VOD documents the StartTime of a stream as a date, and sends an offset in seconds. `start_time` has the offset. Without this column
a date is lost, and listed as unreadable.

NULL means that VOD sent no date. The previous release does not know the column and leaves it NULL. The next fetch of such an asset
by this release fills it, and so does `vodsync renormalise`.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

TABLES = ("vod_audio_stream", "vod_video_stream")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("start_at", UtcDateTime))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "start_at")
