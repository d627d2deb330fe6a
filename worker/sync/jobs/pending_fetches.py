"""Count what workers have not fetched yet of the media that a job requested."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from worker.store.jobs.inventory import Inventory
from worker.store.jobs.job_rows import Job

#: How long a job waits before it counts again.
POLL_INTERVAL = timedelta(seconds=0.25)


@dataclass(frozen=True, slots=True)
class PendingFetches:
    """Media that a job requested: `left` are not fetched, `dead` became dead letters.

    The rest is fetched, or was requested again with another priority or reason.
    `newly_fetched` is what to add to the job's counter `fetched`.
    """

    left: int
    dead: int
    newly_fetched: int

    @classmethod
    def count(cls, connection: Connection, job: Job, *, requested: int) -> PendingFetches:
        """Count in the database; `requested` is how many the job has requested since its start."""
        inventory = Inventory(connection, job.source)
        left = inventory.count_unfetched(job.kind)
        dead = inventory.count_dead_letters(job.kind, since=job.created_at)
        return cls(left, dead, newly_fetched=max(0, requested - left - dead - job.counters.get("fetched", 0)))
