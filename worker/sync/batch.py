"""One batch: claim what is due, ask VOD once, store the answer, settle."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from worker import logs
from worker.core.errors import (
    StoreUnavailable,
    VodCredentials,
    VodError,
    VodRefused,
    VodThrottled,
    VodUnavailable,
    VodUnreadable,
)
from worker.core.ids import reference_key, split
from worker.core.media import Answer, Media
from worker.core.normalise import read_answer
from worker.store import Rollback, Store
from worker.store.catalogue import FORBIDDEN, MISSING, Catalogue
from worker.store.inbox import Claim, Inbox, Postponement
from worker.store.quota import Quota, Slot
from worker.store.told import Told
from worker.sync.policy import STANDARD, Policy
from worker.vod import Vod

log = logs.get(__name__)

_OPERATION = "BatchGetMediaInfos"


@dataclass(slots=True)
class Report:
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
    #: A full batch was claimed, so there may well be another.
    more_waiting: bool = False
    #: The media that were saved.
    media_ids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Fetched:
    """What the calls for one claim brought. `refused` and `failed` hold the error by claimed key."""

    answers: list[tuple[Answer, datetime]] = field(default_factory=list)
    refused: dict[str, VodError] = field(default_factory=dict)
    failed: dict[str, VodError] = field(default_factory=dict)
    #: Keys that go back as they came, because the fault is not theirs.
    returned: dict[str, VodError] = field(default_factory=dict)
    calls: int = 0
    #: The calls before these failed for all of the source.
    probing: bool = False


def sync_batch(
    store: Store,
    vod: Vod,
    *,
    now: datetime,
    source: str = "default",
    policy: Policy = STANDARD,
    sleep: Callable[[float], object] = time.sleep,
) -> Report:
    """Fetch and store up to 20 due media of one source.

    The batch is decided at the last moment: the claim commits together with the call's slot in the quota, so that whoever waits for
    a slot holds no media that could still gather notifications. Raises StoreUnavailable; the lease then gives the batch back.
    """
    claimed = store.transact(lambda connection: _claim(connection, source, now, policy))
    if claimed is None or isinstance(claimed, timedelta):
        return Report(wait=claimed)
    claim, slot = claimed
    began = time.monotonic()
    fetched = _Fetched(probing=slot.probing)
    again = {request.media_id for request in claim.requests if request.attempts}
    _fetch(store, vod, claim.media_ids, slot, fetched, source=source, policy=policy, sleep=sleep, again=again)
    # Whole seconds: what counts is a call that timed out.
    now += timedelta(seconds=int(time.monotonic() - began))
    try:
        report = store.transact(lambda connection: _store(connection, claim, fetched, now=now, policy=policy))
    except StoreUnavailable as error:
        # Either the database is away, then this fails too and the lease gives the batch back; or it does not take this answer.
        fault = VodUnavailable(str(error))
        fetched = _Fetched(failed=dict.fromkeys(claim.media_ids, fault), calls=fetched.calls)
        report = store.transact(lambda connection: _store(connection, claim, fetched, now=now, policy=policy))
    report.more_waiting = len(claim.requests) == policy.limit
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


def _claim(connection: Connection, source: str, now: datetime, policy: Policy) -> tuple[Claim, Slot] | timedelta | None:
    claim = Inbox(connection).claim(source, limit=policy.limit, now=now, lease=policy.lease, linger=policy.linger)
    if not isinstance(claim, Claim):
        raise Rollback(claim)
    slot = Quota(connection).take(policy.bucket or source, _OPERATION, per_second=policy.calls_per_second)
    if isinstance(slot, timedelta):
        raise Rollback(slot)
    return claim, slot


def _fetch(
    store: Store,
    vod: Vod,
    keys: list[str],
    slot: Slot,
    fetched: _Fetched,
    *,
    source: str,
    policy: Policy,
    sleep: Callable[[float], object],
    again: Set[str] = frozenset(),
) -> None:
    """Ask VOD for `keys`; a batch refused because of one of them is halved until the culprit stands alone.

    So is a batch with keys of `again`, which failed before, whose answer cannot be read.
    """

    def halve(error: VodError) -> None:
        middle = len(keys) // 2
        for half in (keys[:middle], keys[middle:]):
            next_slot = _next_slot(store, source, policy, sleep)
            if next_slot is None:
                fetched.returned |= dict.fromkeys(half, error)
            else:
                _fetch(store, vod, half, next_slot, fetched, source=source, policy=policy, sleep=sleep, again=again)

    sleep(slot.wait.total_seconds())
    media_ids, reference_ids = split(keys)
    fetched.calls += 1
    try:
        fetched.answers.append((_ask(vod, media_ids, reference_ids), slot.at))
    except VodThrottled as error:
        pause = timedelta(seconds=error.retry_after) if error.retry_after else policy.throttle_pause
        _hold_back(store, policy.bucket or source, pause, error)
        fetched.returned |= dict.fromkeys(keys, error)
    except VodCredentials as error:
        _hold_back(store, policy.bucket or source, policy.credentials_pause, error)
        fetched.returned |= dict.fromkeys(keys, error)
    except VodUnreadable as error:
        if len(keys) > 1 and again & set(keys):
            halve(error)
        else:
            fetched.failed |= dict.fromkeys(keys, error)
            log.warning("VOD's answer cannot be read", source=source, asked=len(keys), error=str(error))
    except VodUnavailable as error:
        fetched.failed |= dict.fromkeys(keys, error)
        log.warning("VOD did not answer", source=source, asked=len(keys), error=str(error), code=error.code)
    except VodRefused as error:
        if error.code == "InvalidVideo.NotFound" and not reference_ids:
            # Said of a whole batch it means that VOD knows none of them (vod-protocol 4.4).
            fetched.answers.append((Answer(request_id=error.request_id, missing=frozenset(media_ids)), slot.at))
        elif len(keys) == 1:
            fetched.refused[keys[0]] = error
        else:
            halve(error)


def _ask(vod: Vod, media_ids: list[str], reference_ids: list[str]) -> Answer:
    try:
        return read_answer(vod.batch_get_media_infos(media_ids, reference_ids))
    except VodError:
        raise
    except Exception as error:
        # A fault of ours must cost what a fault of VOD costs: an attempt, and in the end the media that cause it.
        raise VodUnreadable(f"vodsync could not read VOD's answer: {type(error).__name__}") from error


def _hold_back(store: Store, source: str, pause: timedelta, error: VodError) -> None:
    store.transact(lambda connection: Quota(connection).hold_back(source, _OPERATION, pause, fault=str(error)))
    level = log.error if isinstance(error, VodCredentials) else log.warning
    level("source held back", source=source, seconds=pause.total_seconds(), code=error.code, error=str(error))


def _next_slot(store: Store, source: str, policy: Policy, sleep: Callable[[float], object]) -> Slot | None:
    """A slot for one more call of the same claim; None where that would take so long that the lease is better given back."""
    patience = policy.lease / 10
    bucket = policy.bucket or source
    while True:
        slot = store.transact(lambda connection: Quota(connection).take(bucket, _OPERATION, per_second=policy.calls_per_second))
        if isinstance(slot, Slot):
            return slot
        if slot > patience:
            return None
        patience -= slot
        sleep(slot.total_seconds())


def _store(connection: Connection, claim: Claim, fetched: _Fetched, *, now: datetime, policy: Policy) -> Report:
    """Everything a claim brought, in the caller's transaction; each claimed key is settled, postponed or buried exactly once."""
    inbox, catalogue, told = Inbox(connection), Catalogue(connection), Told(connection)
    report = Report(claimed=len(claim.requests), calls=fetched.calls)
    owed = {request.media_id: request for request in claim.requests}
    if fetched.probing and fetched.answers:
        Quota(connection).release(policy.bucket or claim.source, _OPERATION)
    settled: set[str] = set()
    postponed: dict[str, Postponement] = {}
    buried: dict[str, str] = {}
    for answer, asked_at in fetched.answers:
        shown = {media.media_id: media for media in answer.media if _keys(media) & owed.keys()}
        saved = catalogue.save(claim.source, shown.values(), observed_at=asked_at)
        report.saved += len(shown)
        report.media_ids += shown
        report.changed += len(saved.new) + len(saved.changed)
        failed = told.failed_analyses(claim.source, [media.media_id for media in shown.values() if not media.analysed])
        for media in shown.values():
            for key in _keys(media) & owed.keys():
                later = policy.after_answer(owed[key], media, now=now, failed=media.media_id in failed)
                if later:
                    postponed[key] = later
                else:
                    settled.add(key)
            if media.unreadable:
                log.warning("media unreadable in part", source=claim.source, media_id=media.media_id, fields=list(media.unreadable))
        missing = answer.missing & owed.keys()
        deleted = told.deletions(claim.source, missing)
        catalogue.delete(claim.source, deleted, observed_at=asked_at)
        early = {
            key: later
            for key in missing - deleted.keys()
            if (later := policy.after_nothing(owed[key], "VOD does not know this id (yet)", now=now))
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
            postponed[key] = Postponement(key, now, _said(fetched.returned[key]))
            continue
        error = _said(fetched.failed[key]) if key in fetched.failed else "VOD's answer passed over this id"
        again = policy.after_failure(owed[key], error, now=now)
        if again:
            postponed[key] = again
        else:
            buried[key] = error
    settled -= buried.keys()
    postponed = {key: later for key, later in postponed.items() if key not in settled | buried.keys()}
    inbox.settle(claim, settled, now=now)
    inbox.postpone(claim, list(postponed.values()), now=now)
    inbox.bury(claim, buried, now=now)
    report.postponed, report.dead = len(postponed), len(buried)
    return report


def _said(error: VodError) -> str:
    """What VOD said, with the id that its support asks for."""
    return f"{error} (request {error.request_id})" if error.request_id else str(error)


def _keys(media: Media) -> set[str]:
    """What may have been claimed for this medium: its id, its reference id, or both."""
    return {media.media_id} | ({reference_key(media.reference_id)} if media.reference_id else set())
