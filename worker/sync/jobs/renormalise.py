"""Renormalise: derive the typed columns again from VOD's stored responses, without a call to VOD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from worker import logs
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.catalogue.rederive import Comparison, Rederivation, count_answers
from worker.store.jobs.job_rows import Job
from worker.sync.jobs.step import Progress, Step, from_json

log = logs.get(__name__)

KIND = "renormalise"

#: Assets compared in one step.
ASSETS_PER_STEP = 500


class Checkpoint(msgspec.Struct, frozen=True):
    """The last asset that was compared; the next step continues after it. This kind has one phase and no parameters."""

    media_id: str = ""


class Renormalise:
    """Counters: assets in `total`, `read`, and those `changed`."""

    def __init__(self, store: Store, source: str, *, announce: bool = False) -> None:
        self._store = store
        self._source = source
        self._announce = announce

    def step(self, job: Job, *, now: datetime) -> Step:
        """Compare the next assets outside of any transaction. Those that differ are locked, and compared again if fetched since."""
        checkpoint: Checkpoint = from_json(job.checkpoint or {}, Checkpoint, job)
        comparison = _compare(self._store, self._source, checkpoint.media_id)
        total = self._total() if job.checkpoint is None else {}
        following = Checkpoint(comparison.last or checkpoint.media_id)

        def write(connection: Connection) -> Progress:
            rederivation = Rederivation(connection, self._source, announce=self._announce)
            changed = rederivation.repair(comparison.differences, now=now)
            return Progress(following, {"read": comparison.read, "changed": changed, **total})

        return Step(write, is_last=comparison.read < ASSETS_PER_STEP)

    def _total(self) -> Mapping[str, int]:
        """Return the number of stored responses, so that an operator sees how much is left. Empty if counting takes too long."""
        try:
            with self._store.reading() as connection:
                return {"total": count_answers(connection, self._source)}
        except StoreUnavailableError:
            return {}


def preview(store: Store, source: str) -> Iterator[dict[str, int]]:
    """Yield what each step of a job would count. Writes nothing. Raises StoreUnavailableError."""
    after: str | None = ""
    while after is not None:
        comparison = _compare(store, source, after)
        yield {"read": comparison.read, "changed": sum(difference.is_visible for difference in comparison.differences)}
        after = comparison.last if comparison.read == ASSETS_PER_STEP else None


def _compare(store: Store, source: str, after: str) -> Comparison:
    with store.reading() as connection:
        comparison = Rederivation(connection, source).compare(after, limit=ASSETS_PER_STEP)
    for media_id in comparison.unknown:
        log.warning("stored response is not a media asset", source=source, media_id=media_id)
    return comparison
