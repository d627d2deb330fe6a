"""What drifted apart: media that we miss, that changed behind our back, and that are gone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from worker.core.errors import VodCredentialsError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.core.media import BATCH_LIMIT, Answer
from worker.core.wait import Wait
from worker.store.jobs.inventory import Inventory
from worker.store.jobs.job_rows import Job, Jobs
from worker.store.jobs.seen_media import SeenMedia
from worker.store.rate_limit import RateLimiter
from worker.sync.fetch import OPERATION, back_off, call, departing
from worker.sync.jobs.listing import TYPES, Listing
from worker.sync.jobs.paging import Cursor, PageResult, begin
from worker.sync.jobs.run import JobRefusedError, Step
from worker.sync.rate_limit import acquire
from worker.sync.retry_policy import Policy

KIND = "reconcile"

#: A search index is behind by an unknown time (vod-protocol 6.1), so that each run looks this far back behind the one before.
_OVERLAP = timedelta(minutes=15)

#: Ids named for each count; rows marked, and compared, in one transaction; between two looks at what is still to be fetched.
_EXAMPLES, _GROUP, _PAGE, _LOOK = 5, 200, 1_000, timedelta(seconds=0.25)

_PATIENCE = timedelta(seconds=2)

#: A call for suspects that fails for so long is made with fewer of them; one that stands alone is left to the next run.
_OUTAGE, _LONG_OUTAGE = timedelta(seconds=10), timedelta(minutes=2)


class Reconcile:
    """Parameters: `full`, `allow_mass_delete`, `dry_run`.

    Incremental runs list what changed since the last one began, and count; where VOD has fewer media than we hold, or no run has
    ended well yet, everything is listed. Media that a full listing does not show are suspects: each is asked for before it is
    marked, and too many of them are marked only by request.

    Counters: media `total` by VOD's count (of a full listing), `listed`, `missed`, `changed`, `fetched`, `suspected`, `gone`,
    `deleted`. The checkpoint holds `examples`.
    """

    def __init__(self, listing: Listing, policy: Policy, *, most_deleted_percent: float) -> None:
        self._listing = listing
        self._policy = policy
        self._most_deleted = most_deleted_percent

    def step(self, job: Job, *, now: datetime) -> Step:
        checkpoint = job.checkpoint or self._begin(job)
        phases = {
            "total": self._total,
            "list": self._list,
            "settle": self._fetch,
            "count": self._count,
            "compare": self._compare,
            "ask": self._ask,
            "mark": self._mark,
            "fetch": self._fetch,
        }
        return phases[checkpoint["phase"]](job, checkpoint, now)

    def _begin(self, job: Job) -> dict[str, Any]:
        if not job.parameters.get("full"):
            with self._listing.store.reading() as connection:
                last = Jobs(connection).last_done(self._listing.source, KIND, dry_run=False)
            if last:
                return _of_type(job, {"since": (last.created_at - _OVERLAP).isoformat(), "examples": {}}, TYPES[0])
        return _full({})

    def _total(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        """For who watches."""
        total = self._listing.total(checkpoint, TYPES, begin(None, None, now=now))
        if isinstance(total, Step):
            return total
        return Step(_of_type(job, checkpoint, TYPES[0]), store=lambda _connection: {"total": total})

    def _list(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        if resting := self._listing.rest(checkpoint, KIND):
            return resting
        full = checkpoint["since"] is None
        seen = self._listing.page(checkpoint["type"], Cursor.from_json(checkpoint["position"]), by_modification=not full)
        if isinstance(seen, Wait):
            return Step(checkpoint, wait=seen.duration)
        after = checkpoint | {"position": seen.position.as_json()}
        if seen.position.over:
            rest = TYPES[TYPES.index(checkpoint["type"]) + 1 :]
            after |= _of_type(job, checkpoint, rest[0]) if rest else {"phase": "compare" if full else "settle"}
        return Step(after, store=lambda connection: self._write(job, connection, seen, checkpoint, after, now))

    def _write(
        self, job: Job, connection: Connection, seen: PageResult, checkpoint: dict[str, Any], after: dict[str, Any], now: datetime
    ) -> Mapping[str, int]:
        library = Inventory(connection, self._listing.source)
        full = checkpoint["since"] is None
        rows = SeenMedia(connection).add(job.id, seen.rows)
        new, changed = library.compare(rows, forbidden=full, modified=not full)
        if not job.parameters.get("dry_run"):
            library.request([*new, *changed], KIND, now=now)
        after["examples"] = _named(checkpoint["examples"], missed=new, changed=changed)
        return {"listed": len(rows), "missed": len(new), "changed": len(changed)}

    def _count(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        """What is deleted stands in no list of changes, but is missing from the count."""
        total = self._listing.total(checkpoint, TYPES, begin(None, None, now=now))
        if isinstance(total, Step):
            return total
        with self._listing.store.reading() as connection:
            held = Inventory(connection, self._listing.source).held()
        if job.parameters.get("dry_run"):
            held += job.counters.get("missed", 0)
        return Step(_full(checkpoint["examples"]) if held > total else checkpoint | {"phase": "fetch"})

    def _compare(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        """What we hold, and no page of the listing showed, in whatever order it came."""
        after = checkpoint.get("compared", "")
        with self._listing.store.reading() as connection:
            last = Inventory(connection, self._listing.source).last_held(after, _PAGE)
        following = checkpoint | ({"phase": "ask"} if last is None else {"compared": last})

        def write(connection: Connection) -> Mapping[str, int]:
            library = Inventory(connection, self._listing.source)
            if not after:
                library.clear()
            return {"suspected": library.suspect(job.id, after, last, before=job.created_at)}

        return Step(following, write)

    def _ask(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        """Ask for suspects one by one: a listing that passes over a medium does not prove it gone."""
        listing = self._listing
        limit = checkpoint.get("limit", BATCH_LIMIT)
        with listing.store.reading() as connection:
            media_ids = Inventory(connection, listing.source).unasked(limit)
        if not media_ids:
            return Step(checkpoint | {"phase": "mark"})
        bucket, rate = self._policy.bucket or listing.source, self._policy.calls_per_second
        slot = acquire(listing.store, bucket, OPERATION, per_second=rate, patience=_PATIENCE, sleep=listing.sleep)
        if isinstance(slot, Wait):
            return Step(checkpoint, wait=slot.duration)
        listing.sleep(slot.wait.total_seconds())
        late: dict[datetime, datetime] = {}
        try:
            with departing(listing.vod, slot, late):
                answer = call(listing.vod, media_ids, [])
        except (VodThrottledError, VodCredentialsError) as error:
            back_off(listing.store, bucket, OPERATION, error, self._policy)
            raise
        except VodRefusedError as error:
            if error.code == "InvalidVideo.NotFound":
                answer = Answer(request_id=error.request_id, missing=frozenset(media_ids))
            elif len(media_ids) > 1:
                return Step(checkpoint | {"limit": len(media_ids) // 2})
            else:
                # Not known to be gone; what is wrong with it is found out as with any other medium.
                answer = Answer(request_id=error.request_id)
        except VodUnavailableError as error:
            # An outage, or one of these: the smaller the batch, the longer it is taken for an outage.
            if job.last_error is None or now - job.updated_at < (_OUTAGE if len(media_ids) > 1 else _LONG_OUTAGE):
                raise
            if len(media_ids) > 1:
                return Step(checkpoint | {"limit": len(media_ids) // 2})
            answer = Answer(request_id=error.request_id)
        after = checkpoint | {"asked_at": checkpoint.get("asked_at") or slot.at.isoformat(), "limit": BATCH_LIMIT}

        def hear(connection: Connection) -> Mapping[str, int]:
            if slot.probing:
                RateLimiter(connection).release(bucket, OPERATION)
            RateLimiter(connection).adjust_started(bucket, OPERATION, late)
            return self._hear(job, connection, answer, media_ids, checkpoint, after, now)

        return Step(after, hear)

    def _hear(
        self,
        job: Job,
        connection: Connection,
        answer: Answer,
        media_ids: list[str],
        checkpoint: dict[str, Any],
        after: dict[str, Any],
        now: datetime,
    ) -> Mapping[str, int]:
        library = Inventory(connection, self._listing.source)
        gone = answer.missing & set(media_ids)
        library.confirm(gone)
        there = set(media_ids) - gone
        library.clear(there)
        if not job.parameters.get("dry_run"):
            library.request(there, KIND, now=now)
        after["examples"] = _named(checkpoint["examples"], gone=sorted(gone))
        return {"gone": len(gone)}

    def _mark(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        with self._listing.store.reading() as connection:
            library = Inventory(connection, self._listing.source)
            gone, held = library.gone(), library.held()
        if not gone or job.parameters.get("dry_run"):
            return Step(checkpoint | {"phase": "fetch"})
        marked = job.counters.get("deleted", 0)
        if (gone + marked) * 100 > self._most_deleted * (held + marked) and not job.parameters.get("allow_mass_delete"):
            such_as = ", ".join(checkpoint["examples"].get("gone", []))
            raise JobRefusedError(
                f"{gone} of {held} media are gone at VOD, more than {self._most_deleted:g} % (VODSYNC_MOST_DELETED_PERCENT), such "
                f"as {such_as}; none was marked as deleted. If that is right: vodsync reconcile --full --allow-mass-delete"
            )
        asked_at = datetime.fromisoformat(checkpoint["asked_at"])
        return Step(checkpoint, store=lambda connection: self._mark_deleted(connection, asked_at))

    def _mark_deleted(self, connection: Connection, asked_at: datetime) -> Mapping[str, int]:
        library = Inventory(connection, self._listing.source, announce=self._policy.announce)
        return {"deleted": len(library.mark_deleted(_GROUP, observed_at=asked_at))}

    def _fetch(self, job: Job, checkpoint: dict[str, Any], now: datetime) -> Step:
        """Wait until what was missed or changed is there; before the count, because media on their way would hide deleted ones."""
        with self._listing.store.reading() as connection:
            library = Inventory(connection, self._listing.source)
            left = 0 if job.parameters.get("dry_run") else library.unfetched(KIND)
            dead = library.dead(KIND, since=job.created_at)
        wanted = job.counters.get("missed", 0) + job.counters.get("changed", 0)
        fetched = max(0, wanted - left - dead - job.counters.get("fetched", 0))

        def write(connection: Connection) -> Mapping[str, int]:
            if job.parameters.get("dry_run"):
                return {}
            return {"fetched": fetched} | ({"dead": dead} if dead and not left and checkpoint["phase"] == "fetch" else {})

        if not left and checkpoint["phase"] == "settle":
            return Step({"phase": "count", "examples": checkpoint["examples"]}, write)
        return Step(checkpoint, write, done=not left, wait=_LOOK if left else timedelta(0))


def _full(examples: dict[str, Any]) -> dict[str, Any]:
    return {"phase": "total", "since": None, "examples": examples}


def _of_type(job: Job, checkpoint: dict[str, Any], kind: str) -> dict[str, Any]:
    """The checkpoint before the first page of a type."""
    since = checkpoint["since"]
    position = begin(None if since is None else datetime.fromisoformat(since), None, now=job.created_at)
    examples = checkpoint["examples"]
    return {"phase": "list", "since": since, "type": kind, "position": position.as_json(), "examples": examples}


def _named(examples: Mapping[str, list[str]], **found: list[str]) -> dict[str, list[str]]:
    named = dict(examples)
    for name, media_ids in found.items():
        if media_ids:
            named[name] = [*named.get(name, []), *media_ids][:_EXAMPLES]
    return named
