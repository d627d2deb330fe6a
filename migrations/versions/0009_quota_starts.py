"""store when the last calls started

The rate limit of an account counts calls when they really start. A process that is delayed starts a call later than its slot;
without the real times, there would then be one call too many in a second.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("vod_quota", sa.Column("started_us", Json))


def downgrade() -> None:
    op.drop_column("vod_quota", "started_us")
