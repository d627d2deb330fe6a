"""Everything that the library holds and we do not: listed page by page, and requested behind whatever is more urgent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from worker.core.wait import Wait
from worker.store.jobs.inventory import Inventory
from worker.store.jobs.job_rows import Job
from worker.store.jobs.seen_media import SeenMedia
from worker.sync.jobs.listing import TYPES, Listing
from worker.sync.jobs.paging import Cursor, PageResult, begin
from worker.sync.jobs.run import Step

KIND = "backfill"

#: Between two looks at what is still to be fetched.
_LOOK = timedelta(seconds=0.25)


class Backfill:
    """Parameters: `since` and `until` (times of creation), `status` and `type` (lists), `dry_run`.

    Counters: media `total` by VOD's count, `listed`, `known` (as VOD has them), `requested`, `fetched`, `dead` (dead letters).
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def step(self, job: Job, *, now: datetime) -> Step:
        checkpoint = job.checkpoint or {"phase": "total", "types": job.parameters.get("type") or list(TYPES)}
        return {"total": self._total, "list": self._list, "fetch": self._fetch}[checkpoint["phase"]](job, checkpoint, now)

    def _total(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        """For who watches."""
        total = self._listing.total(checkpoint, checkpoint["types"], _start(job), statuses=_statuses(job))
        if isinstance(total, Step):
            return total
        return Step(_of_type(job, checkpoint), store=lambda _connection: {"total": total})

    def _list(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        if resting := self._listing.rest(checkpoint, KIND):
            resting.store = lambda connection: self._fetched(job, connection)
            return resting
        seen = self._listing.page(checkpoint["type"], Cursor.from_json(checkpoint["position"]), statuses=_statuses(job))
        if isinstance(seen, Wait):
            return Step(checkpoint, wait=seen.duration)
        after = checkpoint | {"position": seen.position.as_json()}
        if seen.position.over:
            after = _of_type(job, checkpoint, after=checkpoint["type"])
        return Step(after, store=lambda connection: self._write(job, connection, seen, now=now))

    def _write(self, job: Job, connection: Connection, seen: PageResult, *, now: datetime) -> dict[str, int]:
        library = Inventory(connection, self._listing.source)
        rows = SeenMedia(connection).add(job.id, seen.rows)
        new, changed = library.compare(rows)
        wanted = [*new, *changed]
        counted = {"listed": len(rows), "known": len(rows) - len(wanted), "requested": len(wanted)}
        if job.parameters.get("dry_run"):
            return counted
        library.request(wanted, KIND, now=now)
        return counted | self._fetched(job, connection, more=len(wanted))

    def _fetch(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        """All is listed; the job ends when all is fetched."""
        if job.parameters.get("dry_run"):
            return Step(checkpoint, done=True)
        with self._listing.store.reading() as connection:
            library = Inventory(connection, self._listing.source)
            left = library.unfetched(KIND)
            dead = library.dead(KIND, since=job.created_at)

        def write(connection: Connection) -> dict[str, int]:
            ended = {"dead": dead} if dead and not left else {}
            return ended | self._fetched(job, connection)

        return Step(checkpoint, write, done=not left, wait=_LOOK if left else timedelta(0))

    def _fetched(self, job: Job, connection: Connection, *, more: int = 0) -> dict[str, int]:
        """What was fetched since the last step, of all that was requested and `more`."""
        library = Inventory(connection, self._listing.source)
        left = library.unfetched(KIND) + library.dead(KIND, since=job.created_at)
        return {"fetched": max(0, job.counters.get("requested", 0) + more - left - job.counters.get("fetched", 0))}


def _start(job: Job) -> Cursor:
    since, until = (_time(job.parameters.get(name)) for name in ("since", "until"))
    return begin(since, until, now=job.created_at)


def _of_type(job: Job, checkpoint: dict[str, Any], after: str | None = None) -> dict[str, Any]:
    """The checkpoint before the first page of the first type, or of the one behind `after`."""
    types = checkpoint["types"] if after is None else checkpoint["types"][checkpoint["types"].index(after) + 1 :]
    if not types:
        return {"phase": "fetch"}
    return {"phase": "list", "types": checkpoint["types"], "type": types[0], "position": _start(job).as_json()}


def _statuses(job: Job) -> list[str]:
    return job.parameters.get("status") or []


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
