"""${message}

Why it is needed, and what breaks without it. It must be safe while the previous release runs: add, backfill, then enforce.
MariaDB and MySQL may repeat it after an interruption: whatever is not an operation of `op` has to be safe to run twice.
Import nothing from worker: copy the column types, so that what this migration creates never changes.
"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
