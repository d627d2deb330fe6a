"""remember when the last calls began

Calls of an account are counted by when they really begin: a process that got no processor for a while calls later than its slot
said, and then one call too many would fall into a second.
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
