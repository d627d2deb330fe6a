"""One batch: claim what is due, ask VOD once, store the answer, settle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from worker import logs
from worker.core.errors import StoreUnavailableError, VodError, VodUnavailableError
from worker.core.ids import reference_key
from worker.core.media import Media
from worker.core.urls import storable
from worker.core.wait import Wait
from worker.store import Store
from worker.store.catalogue.assets import DELETED, FORBIDDEN, MISSING, OK, Catalogue
from worker.store.inbox.history import Deletion, NotificationHistory
from worker.store.inbox.sync_requests import Claim, Inbox, Retry, SyncRequest
from worker.store.inbox.video_info_queue import VideoInfoQueue
from worker.store.rate_limit import RateLimiter, Slot
from worker.sync.fetch import OPERATION, Fetch, Fetched
from worker.sync.retry_policy import STANDARD, Policy
from worker.vod import Vod

log = logs.get(__name__)

#: Characters of an error that are kept.
_SAID = 500

#: Seconds: a database that takes so long to refuse an answer is not asked for each part of it.
_SLOW = 5.0


@dataclass(slots=True)
class BatchResult:
    """What became of one batch, in media. `wait`: nothing was claimed, but it is worth coming back after that."""

    claimed: int = 0
    saved: int = 0
    changed: int = 0
    missing: int = 0
    deleted: int = 0
    forbidden: int = 0
    postponed: int = 0
    dead: int = 0
    calls: int = 0
    wait: timedelta | None = None
    #: The media that were saved.
    media_ids: list[str] = field(default_factory=list)

    def merged_with(self, other: BatchResult) -> BatchResult:
        """What became of two parts of one batch."""
        counts = ("claimed", "saved", "changed", "missing", "deleted", "forbidden", "postponed", "dead")
        both = {name: getattr(self, name) + getattr(other, name) for name in counts}
        return BatchResult(**both, media_ids=self.media_ids + other.media_ids)


def sync_batch(
    store: Store,
    vod: Vod,
    *,
    now: datetime,
    source: str = "default",
    policy: Policy = STANDARD,
    sleep: Callable[[float], object] = time.sleep,
    wake_workers: Callable[[], object] = lambda: None,
    alone: bool = True,
) -> BatchResult:
    """Fetch and store up to 20 due media of one source.

    Where there may well be more, or other sources (not `alone`), others are rung for before VOD is asked.

    The batch is decided at the last moment: the claim commits together with the call's slot in the quota, so that whoever waits for
    a slot holds no media that could still gather notifications. Raises StoreUnavailable; the lease then gives the batch back.
    """
    claimed = store.transact(lambda connection: _claim(connection, source, now, policy))
    if claimed is None:
        return BatchResult()
    if isinstance(claimed, Wait):
        return BatchResult(wait=claimed.duration)
    claim, slot = claimed
    if len(claim.requests) == policy.limit or not alone:
        # VOD takes its time: only calls beside each other use the whole rate, and no source waits for another one's answer.
        wake_workers()
    began = time.monotonic()
    try:
        fetched = Fetch(store, vod, claim, policy=policy, sleep=sleep).ask(claim.media_ids, slot)
    except StoreUnavailableError:
        raise
    except Exception as error:
        fetched = _fault(claim, error)
    # Whole seconds: what counts is a call that timed out.
    now += timedelta(seconds=int(time.monotonic() - began))
    report = _keep(store, claim, fetched, now=now, policy=policy)
    report.calls = fetched.calls
    log.info(
        "batch synced",
        source=source,
        claimed=report.claimed,
        saved=report.saved,
        changed=report.changed,
        missing=report.missing,
        deleted=report.deleted,
        forbidden=report.forbidden,
        postponed=report.postponed,
        dead=report.dead,
        request_id=fetched.answers[0][0].request_id if fetched.answers else None,
    )
    return report


def _claim(connection: Connection, source: str, now: datetime, policy: Policy) -> tuple[Claim, Slot] | Wait | None:
    claim = Inbox(connection).claim(source, limit=policy.limit, now=now, lease=policy.lease, linger=policy.linger)
    if not isinstance(claim, Claim):
        return claim
    slot = RateLimiter(connection).take(policy.bucket or source, OPERATION, per_second=policy.calls_per_second)
    return slot if isinstance(slot, Wait) else (claim, slot)


def _keep(store: Store, claim: Claim, fetched: Fetched, *, now: datetime, policy: Policy) -> BatchResult:
    """Store what a claim brought; what the database does not take is halved until the culprit stands alone and pays an attempt."""
    began = time.monotonic()
    try:
        return store.transact(lambda connection: _store(connection, claim, fetched, now=now, policy=policy))
    except Exception as error:
        # Where the database is away this fails too, and the lease gives the batch back.
        store.transact(lambda connection: connection.execute(select(1)))
        if len(claim.requests) == 1 or time.monotonic() - began > _SLOW:
            fault = _fault(claim, error)
            return store.transact(lambda connection: _store(connection, claim, fault, now=now, policy=policy))
    middle = len(claim.requests) // 2
    first, second = (
        _keep(store, replace(claim, requests=half), fetched, now=now, policy=policy)
        for half in (claim.requests[:middle], claim.requests[middle:])
    )
    return first.merged_with(second)


def _store(connection: Connection, claim: Claim, fetched: Fetched, *, now: datetime, policy: Policy) -> BatchResult:
    """Everything a claim brought, in the caller's transaction; each claimed key is settled, postponed or buried exactly once."""
    inbox, catalogue, told = Inbox(connection), Catalogue(connection, announce=policy.announce), NotificationHistory(connection)
    report = BatchResult(claimed=len(claim.requests), calls=fetched.calls)
    owed = {request.media_id: request for request in claim.requests}
    if policy.video_info:
        medias = {media.media_id: _keys(media) & owed.keys() for answer, _ in fetched.answers for media in answer.media}
        source_contexts = {media_id: min(owed[key].priority for key in keys) for media_id, keys in medias.items() if keys}
        VideoInfoQueue(connection).enqueue(claim.source, source_contexts, now=now)
    if fetched.probing and not fetched.returned:
        if fetched.answers or fetched.refused:
            RateLimiter(connection).release(policy.bucket or claim.source, OPERATION)
        elif fetched.failed:
            fault = str(next(iter(fetched.failed.values())))
            RateLimiter(connection).record_error(policy.bucket or claim.source, OPERATION, fault)
    settled: set[str] = set()
    postponed: dict[str, Retry] = {}
    buried: dict[str, str] = {}
    for answer, asked_at in fetched.answers:
        shown = {media.media_id: media for media in answer.media if _keys(media) & owed.keys()}
        missing = answer.missing & owed.keys()
        deletions = told.deletions(claim.source, shown.keys() | missing)
        bare = {media_id for media_id, media in shown.items() if not media.described}
        states = catalogue.states(claim.source, deletions.keys() | missing | bare)
        saved = catalogue.save(claim.source, shown.values(), observed_at=asked_at)
        report.saved += len(shown)
        report.media_ids += shown
        report.changed += len(saved.new) + len(saved.changed)
        failed = told.failed_analyses(claim.source, [media.media_id for media in shown.values() if not media.analysed])
        for media in shown.values():
            for key in _keys(media) & owed.keys():
                state = states.get(media.media_id)
                later = policy.after_answer(
                    owed[key],
                    media,
                    now=now,
                    failed=media.media_id in failed,
                    deleted=_news(deletions.get(media.media_id), owed[key], state),
                    known=state == OK,
                )
                if later:
                    postponed[key] = later
                else:
                    settled.add(key)
            if media.unreadable:
                log.warning("media unreadable in part", source=claim.source, media_id=media.media_id, fields=list(media.unreadable))
        deleted = {
            media_id: deletion.at
            for media_id, deletion in deletions.items()
            if media_id in missing and _explains(deletion, owed[media_id], states.get(media_id))
        }
        catalogue.delete(claim.source, deleted, observed_at=asked_at)
        early = {
            key: later
            for key in missing - deleted.keys()
            if (later := policy.after_nothing(owed[key], "VOD does not know this id (yet)", now=now, known=states.get(key) == OK))
        }
        # A medium that we know is not gone because VOD does not show it for a moment.
        catalogue.mark(claim.source, early.keys(), MISSING, observed_at=asked_at, only_new=True)
        catalogue.mark(claim.source, missing - deleted.keys() - early.keys(), MISSING, observed_at=asked_at)
        forbidden = answer.forbidden & owed.keys() - answer.missing
        catalogue.mark(claim.source, forbidden, FORBIDDEN, observed_at=asked_at)
        postponed |= early
        settled |= (missing - early.keys()) | forbidden
        report.missing += len(missing - deleted.keys())
        report.deleted += len(deleted)
        report.forbidden += len(forbidden)
        for unknown in map(reference_key, answer.missing_references):
            if unknown in owed:
                buried[unknown] = "VOD knows no media with this reference id"
    for key, refusal in fetched.refused.items():
        not_yet = policy.after_nothing(owed[key], _said(refusal), now=now) if refusal.code == "Forbidden.IllegalStatus" else None
        if not_yet:
            postponed[key] = not_yet
        else:
            buried[key] = _said(refusal)
    for key in owed.keys() - settled - postponed.keys() - buried.keys():
        if key in fetched.returned:
            postponed[key] = Retry(key, now, _said(fetched.returned[key]))
            continue
        error = _said(fetched.failed[key]) if key in fetched.failed else "VOD's answer passed over this id"
        again = policy.after_failure(owed[key], error, now=now)
        if again:
            postponed[key] = again
        else:
            buried[key] = error
    settled -= buried.keys()
    postponed = {key: later for key, later in postponed.items() if key not in settled | buried.keys()}
    inbox.complete(claim, settled, now=now)
    inbox.retry(claim, list(postponed.values()), now=now)
    inbox.dead_letter(claim, buried, now=now)
    # Last, because everybody who wants to call needs this row.
    RateLimiter(connection).adjust_started(policy.bucket or claim.source, OPERATION, fetched.late)
    report.postponed, report.dead = len(postponed), len(buried)
    return report


def _fault(claim: Claim, error: Exception) -> Fetched:
    """An attempt for each request: a fault of ours costs what one of VOD costs, or else it would come back for ever."""
    # What another exception says may hold a statement with all its values.
    said = str(error) if isinstance(error, StoreUnavailableError) else f"vodsync failed: {type(error).__name__}"
    log.error("batch failed", source=claim.source, claimed=len(claim.requests), error=said)
    fault = VodUnavailableError(storable(said)[:_SAID])
    return Fetched(failed=dict.fromkeys(claim.media_ids, fault))


def _news(deletion: Deletion | None, request: SyncRequest, state: str | None) -> bool:
    """Whether a deletion came with the request and no answer has confirmed it; what is shown after that is shown again."""
    return deletion is not None and deletion.told_at >= request.requested_at and state != DELETED


def _explains(deletion: Deletion, request: SyncRequest, state: str | None) -> bool:
    """Whether a medium is gone because of a deletion: not of one that is older than an answer that showed the medium since."""
    return deletion.told_at >= request.requested_at or state in (None, DELETED)


def _said(error: VodError) -> str:
    """What VOD said, with the id that its support asks for."""
    return f"{error} (request {error.request_id})" if error.request_id else str(error)


def _keys(media: Media) -> set[str]:
    """What may have been claimed for this medium: its id, its reference id, or both."""
    return {media.media_id} | ({reference_key(media.reference_id)} if media.reference_id else set())
