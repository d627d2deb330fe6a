"""store why a source is backed off

Wrong keys, missing rights or an unpaid bill stop a source until the operator acts. `status` reads the reason here.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LongText = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
UtcDateTime = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.add_column("vod_quota", sa.Column("fault", LongText))
    op.add_column("vod_quota", sa.Column("fault_at", UtcDateTime))


def downgrade() -> None:
    op.drop_column("vod_quota", "fault_at")
    op.drop_column("vod_quota", "fault")
