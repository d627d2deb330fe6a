"""What a job has listed, so that it takes each medium once and knows what it was not shown."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from worker.core.listing import ListedMedia
from worker.store.jobs.job_rows import OVER
from worker.store.tables import job, listed


class SeenMedia:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, job_id: int, rows: Iterable[ListedMedia]) -> list[ListedMedia]:
        """Write down that the job has listed these; gives those that it had not before."""
        found = {row.media_id: row for row in rows}
        if not found:
            return []
        these = {"job": job_id, "ids": sorted(found)}
        new = found.keys() - set(self._connection.execute(_NOTED, these).scalars())
        if new:
            self._connection.execute(insert(listed), [{"job_id": job_id, "media_id": media_id} for media_id in sorted(new)])
        return [row for media_id, row in found.items() if media_id in new]

    def forget(self, limit: int) -> int:
        """Forget up to `limit` of what a job has listed that is over. Gives how many."""
        ended = select(job.c.id).where(job.c.state.in_(OVER), exists().where(listed.c.job_id == job.c.id)).limit(1)
        job_id = self._connection.execute(ended).scalar()
        noted = select(listed.c.media_id).where(listed.c.job_id == job_id).order_by(listed.c.media_id).limit(limit)
        media_ids = list(self._connection.execute(noted).scalars())
        if media_ids:
            # By the last of them: a list would be as many values as there are.
            these = (listed.c.job_id == job_id) & (listed.c.media_id <= media_ids[-1])
            self._connection.execute(delete(listed).where(these))
        return len(media_ids)


_NOTED = select(listed.c.media_id).where(
    listed.c.job_id == bindparam("job"), listed.c.media_id.in_(bindparam("ids", expanding=True))
)
