"""store how far the clock of a worker's machine is off

All times in the database are those of the database's clock, so a worker's own clock cannot be seen in them. Without this column
`status` and `doctor` cannot name the machine whose clock is off.

NULL means that the worker did not measure it. The previous release, which may run during the upgrade, writes such rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vod_worker", sa.Column("clock_ahead_seconds", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("vod_worker", "clock_ahead_seconds")
