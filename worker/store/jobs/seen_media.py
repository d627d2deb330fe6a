"""Read and write vod_listed: the media ids that a running job has listed so far."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from worker.core.listing import ListedMedia
from worker.store.jobs.job_rows import FINAL_STATES
from worker.store.tables import job, listed


class SeenMedia:
    """The table vod_listed. Works inside the caller's transaction and never commits.

    A listing may return a row several times; a job handles it once. What is stored and was not listed becomes a suspect.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, job_id: int, rows: Iterable[ListedMedia]) -> list[ListedMedia]:
        """Store that the job has listed these rows. Return those that it had not listed before."""
        by_id = {row.media_id: row for row in rows}
        if not by_id:
            return []
        seen = set(self._connection.execute(_SEEN, {"job_id": job_id, "ids": sorted(by_id)}).scalars())
        new = by_id.keys() - seen
        if new:
            self._connection.execute(insert(listed), [{"job_id": job_id, "media_id": media_id} for media_id in sorted(new)])
        return [row for media_id, row in by_id.items() if media_id in new]

    def forget(self, limit: int) -> int:
        """Delete up to `limit` rows of a job that is over. Return how many."""
        ended = select(job.c.id).where(job.c.state.in_(FINAL_STATES), exists().where(listed.c.job_id == job.c.id)).limit(1)
        job_id = self._connection.execute(ended).scalar()
        page = select(listed.c.media_id).where(listed.c.job_id == job_id).order_by(listed.c.media_id).limit(limit)
        media_ids = list(self._connection.execute(page).scalars())
        if media_ids:
            # A range is one comparison; a list of ids would be one bind parameter for each.
            up_to_last = (listed.c.job_id == job_id) & (listed.c.media_id <= media_ids[-1])
            self._connection.execute(delete(listed).where(up_to_last))
        return len(media_ids)


_SEEN = select(listed.c.media_id).where(
    listed.c.job_id == bindparam("job_id"), listed.c.media_id.in_(bindparam("ids", expanding=True))
)
