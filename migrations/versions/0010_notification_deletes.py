"""store whether a notification reports a deletion

A worker needs the recorded deletions of the assets of each batch. Without this column it reads and parses the stored bodies again,
for each batch.

NULL means that no decision was made when the row was written. The previous release, which may run during the upgrade, writes such
rows, and so does the draining of a spool file that it left. Readers then decide from the body. So a NULL is always correct and only
slower. The column has no default, because false would be wrong for a deletion that the previous release records.

The migration decides for the stored rows whose type and status can mean a deletion. All other rows stay NULL, because no reader
looks at them. A row whose body the migration cannot read stays NULL too.

The bodies are read before the table is altered: PostgreSQL locks the table from then on until the commit, and under that lock only
updates by primary key remain.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

IDS_PER_QUERY = 10_000
IDS_PER_UPDATE = 500

notification = sa.table(
    "vod_notification",
    sa.column("id", sa.BigInteger()),
    sa.column("event_type", sa.String()),
    sa.column("media_id", sa.String()),
    sa.column("status", sa.String()),
    sa.column("body", sa.Text()),
    sa.column("deletes", sa.Boolean()),
)


def upgrade() -> None:
    connection = op.get_bind()
    decisions = list(read_decisions(connection))
    op.add_column("vod_notification", sa.Column("deletes", sa.Boolean()))
    for deletes in (True, False):
        ids = [row_id for row_id, decision in decisions if decision is deletes]
        for start in range(0, len(ids), IDS_PER_UPDATE):
            some = ids[start : start + IDS_PER_UPDATE]
            connection.execute(sa.update(notification).where(notification.c.id.in_(some)).values(deletes=deletes))


def downgrade() -> None:
    op.drop_column("vod_notification", "deletes")


def read_decisions(connection):
    """Yield the id of each row that can mean a deletion, and whether it does; a window of ids at a time."""
    first, last = connection.execute(sa.select(sa.func.min(notification.c.id), sa.func.max(notification.c.id))).one()
    if first is None:
        return
    for start in range(first, last + 1, IDS_PER_QUERY):
        rows = connection.execute(
            sa.select(notification.c.id, notification.c.body).where(
                notification.c.id.between(start, start + IDS_PER_QUERY - 1),
                notification.c.event_type == "DeleteMediaComplete",
                notification.c.status == "success",
                notification.c.media_id.is_not(None),
            )
        ).all()
        for row in rows:
            decision = reports_deletion(row.body)
            if decision is not None:
                yield row.id, decision


def reports_deletion(body):
    """Return whether a successful DeleteMediaComplete is about a whole audio or video asset; None if the body is unreadable."""
    try:
        received = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(received, dict):
        return None
    # VOD sends some names with a trailing blank.
    fields = {}
    for name, value in received.items():
        fields.setdefault(name.strip(), value)
    return text(fields, "DeleteType") == "all" and text(fields, "MediaType") not in ("image", "attached")


def text(fields, name):
    value = fields.get(name)
    return value.strip().lower() if isinstance(value, str) else ""


def refuse(constant):
    raise ValueError(f"{constant} is not JSON")
