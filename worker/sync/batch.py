"""Sync one batch: claim due requests, call VOD, decide, and store the results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from worker import logs
from worker.core.errors import RowRefusedError, StoreUnavailableError, VodUnavailableError, describe_error, is_shortage
from worker.core.normalise import other_ids
from worker.core.urls import storable
from worker.core.wait import Wait
from worker.store import Store
from worker.store.catalogue.assets import FORBIDDEN, MISSING, Catalogue
from worker.store.inbox.history import NotificationHistory
from worker.store.inbox.sync_requests import Claim, SyncRequests
from worker.store.inbox.video_info_queue import VideoInfoQueue
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter, Slot
from worker.sync.decide import Decisions, StoredFacts, decide, relevant_answers
from worker.sync.fetch import Fetcher, FetchResult
from worker.sync.source_context import SourceContext

log = logs.get(__name__)

MAX_ERROR_LENGTH = 500  # characters

#: A database that takes longer than this to refuse a batch is not tried again with each half of it.
MAX_REFUSAL_TIME = 5.0  # seconds


@dataclass(slots=True)
class BatchResult:
    """How many requests were claimed and what became of them; `saved` to `forbidden` count assets."""

    claimed: int = 0
    saved: int = 0
    changed: int = 0
    missing: int = 0
    deleted: int = 0
    forbidden: int = 0
    retried: int = 0
    dead_lettered: int = 0
    #: Calls of BatchGetMediaInfos.
    calls: int = 0
    #: Nothing was claimed, but something is expected to be due after this time.
    wait: timedelta | None = None
    #: The assets that were saved.
    media_ids: list[str] = field(default_factory=list)

    def merged_with(self, other: BatchResult) -> BatchResult:
        """Return the result of two parts of one batch, without `calls` and `wait`."""
        counts = ("claimed", "saved", "changed", "missing", "deleted", "forbidden", "retried", "dead_lettered")
        totals = {name: getattr(self, name) + getattr(other, name) for name in counts}
        return BatchResult(**totals, media_ids=self.media_ids + other.media_ids)


def sync_batch(
    store: Store,
    context: SourceContext,
    *,
    now: datetime,
    sleep: Callable[[float], object] = time.sleep,
    wake_workers: Callable[[], object] = lambda: None,
    is_only_source: bool = True,
) -> BatchResult:
    """Fetch up to one batch of due requests of one source and store the results.

    If the batch is full, or there are other sources, `wake_workers` is called before the call of VOD, so that calls run in
    parallel.

    The claim and the slot of its call are one transaction: a worker that waits for a slot has claimed nothing, and requests can
    still join the batch. Raises StoreUnavailableError; the requests then become due again when the lease expires.
    """
    claimed = store.transact(lambda connection: claim_batch(connection, context, now))
    if claimed is None:
        return BatchResult()
    if isinstance(claimed, Wait):
        return BatchResult(wait=claimed.duration)
    claim, slot = claimed
    if len(claim.requests) == context.settings.batch_size or not is_only_source:
        wake_workers()
    started = time.monotonic()
    try:
        fetched = Fetcher(store, context, claim, sleep=sleep).fetch(claim.media_ids, slot)
    except Exception as error:
        # If the database is down, the lease expires. A row that it refuses costs an attempt.
        if isinstance(error, StoreUnavailableError) and not isinstance(error, RowRefusedError):
            raise
        fetched = _failed(claim, error)
    # In whole seconds: only a call that timed out makes a difference.
    now += timedelta(seconds=int(time.monotonic() - started))
    _count_odd_fields(context, claim, fetched)
    result = _store_or_split(store, context, claim, fetched, now=now)
    result.calls = fetched.calls
    log.info(
        "batch synced",
        source=claim.source,
        claimed=result.claimed,
        saved=result.saved,
        changed=result.changed,
        missing=result.missing,
        deleted=result.deleted,
        forbidden=result.forbidden,
        retried=result.retried,
        dead_lettered=result.dead_lettered,
        request_id=fetched.answers[0][0].request_id if fetched.answers else None,
    )
    return result


def claim_batch(connection: Connection, context: SourceContext, now: datetime) -> tuple[Claim, Slot] | Wait | None:
    """Claim due requests and reserve the slot of their call. None: nothing is due."""
    settings = context.settings
    claim = SyncRequests(connection).claim(
        context.source, limit=settings.batch_size, now=now, lease=settings.lease, linger=settings.linger
    )
    if not isinstance(claim, Claim):
        return claim
    slot = RateLimiter(connection).take(context.rate_limit_name, BATCH_GET_MEDIA_INFOS, per_second=settings.calls_per_second)
    return slot if isinstance(slot, Wait) else (claim, slot)


def _failed(claim: Claim, error: Exception) -> FetchResult:
    """Return a result in which every request failed: a bug in vodsync costs an attempt, so that it cannot repeat for ever."""
    # The texts of other errors may have values of a statement.
    is_safe = isinstance(error, StoreUnavailableError) or is_shortage(error)
    text = describe_error(error) if is_safe else f"vodsync failed: {type(error).__name__}"
    log.error("batch failed", source=claim.source, claimed=len(claim.requests), error=text)
    failure = VodUnavailableError(storable(text)[:MAX_ERROR_LENGTH])
    return FetchResult(failed=dict.fromkeys(claim.media_ids, failure))


def _count_odd_fields(context: SourceContext, claim: Claim, fetched: FetchResult) -> None:
    """Log what could not be read, or was read although it is odd."""
    warnings = context.field_warnings
    for answer, _ in fetched.answers:
        warnings.count("answer partly unreadable", answer.unreadable)
    for relevant in relevant_answers(fetched.answers, set(claim.media_ids)):
        for media in relevant.media.values():
            warnings.count("asset partly unreadable", media.unreadable, media_id=media.media_id)
            warnings.count("asset has several ids; the outer one is used", other_ids(media), media_id=media.media_id)


def _store_or_split(store: Store, context: SourceContext, claim: Claim, fetched: FetchResult, *, now: datetime) -> BatchResult:
    """Store the results. If the database refuses them, store each half by itself, until the cause is alone and costs an attempt."""
    started = time.monotonic()
    try:
        return store.transact(lambda connection: store_results(connection, context, claim, fetched, now=now))
    except Exception as error:
        # If the database is down, this raises as well, and the lease expires.
        store.transact(lambda connection: connection.execute(select(1)))
        if len(claim.requests) == 1 or time.monotonic() - started > MAX_REFUSAL_TIME:
            failed = _failed(claim, error)
            return store.transact(lambda connection: store_results(connection, context, claim, failed, now=now))
    middle = len(claim.requests) // 2
    first, second = (
        _store_or_split(store, context, replace(claim, requests=half), fetched, now=now)
        for half in (claim.requests[:middle], claim.requests[middle:])
    )
    return first.merged_with(second)


def store_results(
    connection: Connection, context: SourceContext, claim: Claim, fetched: FetchResult, *, now: datetime
) -> BatchResult:
    """Store everything that a claim brought, in the caller's transaction. Each claimed request gets exactly one decision."""
    settings = context.settings
    facts = _load(connection, claim, fetched)
    decisions = decide(claim, fetched, facts, settings.retry, now=now, video_info=settings.video_info)
    changed = _apply(connection, context, claim, decisions, now=now)
    # Last, because every call of the source needs the row of its rate limit.
    _apply_to_source(connection, context, fetched, decisions)
    return BatchResult(
        claimed=len(claim.requests),
        saved=sum(len(writes.saved) for writes in decisions.assets),
        changed=changed,
        missing=sum(len(writes.missing | writes.missing_if_new) for writes in decisions.assets),
        deleted=sum(len(writes.deleted) for writes in decisions.assets),
        forbidden=sum(len(writes.forbidden) for writes in decisions.assets),
        retried=len(decisions.retries),
        dead_lettered=len(decisions.dead_letters),
        calls=fetched.calls,
        media_ids=[media.media_id for writes in decisions.assets for media in writes.saved],
    )


def _load(connection: Connection, claim: Claim, fetched: FetchResult) -> StoredFacts:
    """Return what the decisions need from the database."""
    answers = relevant_answers(fetched.answers, set(claim.media_ids))
    returned = {media_id: media for answer in answers for media_id, media in answer.media.items()}
    missing = {media_id for answer in answers for media_id in answer.missing}
    without_details = {media_id for answer in answers for media_id, media in answer.media.items() if not media.has_details}
    not_analysed = {media_id for answer in answers for media_id, media in answer.media.items() if not media.is_analysed}
    history = NotificationHistory(connection)
    deletions = history.deletions(claim.source, returned.keys() | missing)
    return StoredFacts(
        states=Catalogue(connection).states(claim.source, deletions.keys() | missing | without_details),
        deletions=deletions,
        failed_analyses=history.failed_analyses(claim.source, not_analysed),
    )


def _apply(connection: Connection, context: SourceContext, claim: Claim, decisions: Decisions, *, now: datetime) -> int:
    """Write the decisions. Return how many assets are new or changed."""
    catalogue, requests = Catalogue(connection, announce=context.settings.announce), SyncRequests(connection)
    # Rows of vod_video_info are locked before those of vod_media, here as elsewhere.
    VideoInfoQueue(connection).enqueue(claim.source, decisions.video_info, now=now)
    changed = 0
    for writes in decisions.assets:
        observed_at = writes.observed_at
        saved = catalogue.save(claim.source, writes.saved, observed_at=observed_at)
        changed += len(saved.new) + len(saved.changed)
        catalogue.mark_deleted(claim.source, writes.deleted, observed_at=observed_at)
        catalogue.mark(claim.source, writes.missing_if_new, MISSING, observed_at=observed_at, only_new=True)
        catalogue.mark(claim.source, writes.missing, MISSING, observed_at=observed_at)
        catalogue.mark(claim.source, writes.forbidden, FORBIDDEN, observed_at=observed_at)
    requests.complete(claim, decisions.completed, now=now)
    requests.retry(claim, list(decisions.retries.values()), now=now)
    requests.dead_letter(claim, decisions.dead_letters, now=now)
    return changed


def _apply_to_source(connection: Connection, context: SourceContext, fetched: FetchResult, decisions: Decisions) -> None:
    """Write how the source's calls went to its rate limit."""
    limiter = RateLimiter(connection)
    if decisions.source_recovered:
        limiter.clear_error(context.rate_limit_name, BATCH_GET_MEDIA_INFOS)
    elif decisions.source_error is not None:
        limiter.record_error(context.rate_limit_name, BATCH_GET_MEDIA_INFOS, decisions.source_error)
    limiter.adjust_started(context.rate_limit_name, BATCH_GET_MEDIA_INFOS, fetched.late)
