"""All that VOD told us, read again by today's parser: the typed columns follow, and nobody is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from sqlalchemy import Connection

from worker import logs
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.catalogue.rederive import Comparison, Rederivation, count_answers
from worker.store.jobs.job_rows import Job
from worker.sync.jobs.run import Step

log = logs.get(__name__)

KIND = "renormalise"

#: Media compared in one step.
_BATCH = 500


class Renormalise:
    """A kind of job; it goes on after the medium that is its checkpoint."""

    def __init__(self, store: Store, source: str, *, announce: bool = False) -> None:
        self._store = store
        self._source = source
        self._announce = announce

    def step(self, job: Job, *, now: datetime) -> Step:
        """Compare the next media, outside of any transaction; only those that differ are locked, and compared again if need be."""
        after = job.checkpoint["media_id"] if job.checkpoint else ""
        compared = _compare(self._store, self._source, after)
        total = self._total() if job.checkpoint is None else {}

        def write(connection: Connection) -> Mapping[str, int]:
            changed = Rederivation(connection, self._source, announce=self._announce).repair(compared.differences, now=now)
            return {"read": compared.read, "changed": changed} | total

        return Step({"media_id": compared.last or after}, write, done=compared.read < _BATCH)

    def _total(self) -> dict[str, int]:
        """For who watches; a database that takes too long to count is not worth to wait for."""
        try:
            with self._store.reading() as connection:
                return {"total": count_answers(connection, self._source)}
        except StoreUnavailableError:
            return {}


def preview(store: Store, source: str) -> Iterator[dict[str, int]]:
    """What a job would count, batch by batch. Writes nothing. Raises StoreUnavailable."""
    after: str | None = ""
    while after is not None:
        compared = _compare(store, source, after)
        yield {"read": compared.read, "changed": sum(difference.is_visible for difference in compared.differences)}
        after = compared.last if compared.read == _BATCH else None


def _compare(store: Store, source: str, after: str) -> Comparison:
    with store.reading() as connection:
        compared = Rederivation(connection, source).compare(after, limit=_BATCH)
    for media_id in compared.unknown:
        log.warning("stored answer is no medium", source=source, media_id=media_id)
    return compared
