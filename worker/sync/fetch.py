"""The calls for one claim: each takes a slot of the quota, and what VOD refuses is halved until the culprit stands alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker import logs
from worker.core.errors import (
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodThrottledError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.core.ids import split_keys
from worker.core.media import Answer
from worker.core.normalise import read_answer
from worker.store import Store
from worker.store.inbox.sync_requests import Claim
from worker.store.rate_limit import BATCH, RateLimiter, Slot
from worker.sync.rate_limit import acquire
from worker.sync.retry_policy import Policy
from worker.vod import Vod

log = logs.get(__name__)

OPERATION = BATCH

#: A call that leaves so much later than its slot says is counted where it leaves.
_PUNCTUAL = timedelta(milliseconds=10)

#: A turn that was missed by so much is over.
_STALE = timedelta(seconds=0.5)


@dataclass(slots=True)
class Fetched:
    """What the calls for one claim brought. `refused` and `failed` hold the error by claimed key."""

    answers: list[tuple[Answer, datetime]] = field(default_factory=list)
    refused: dict[str, VodError] = field(default_factory=dict)
    failed: dict[str, VodError] = field(default_factory=dict)
    #: Keys that go back as they came, because the fault is not theirs.
    returned: dict[str, VodError] = field(default_factory=dict)
    calls: int = 0
    #: When calls that were late for their slot left, by the slot's time.
    late: dict[datetime, datetime] = field(default_factory=dict)
    #: The calls before these failed for all of the source.
    probing: bool = False


class Fetch:
    """Asks the source of a claim. Raises StoreUnavailable where the quota cannot be reached."""

    def __init__(self, store: Store, vod: Vod, claim: Claim, *, policy: Policy, sleep: Callable[[float], object]) -> None:
        self._store = store
        self._vod = vod
        self._source = claim.source
        self._bucket = policy.bucket or claim.source
        self._policy = policy
        self._sleep = sleep
        #: Keys whose call failed before.
        self._again = {request.media_id for request in claim.requests if request.attempts}
        self._fetched = Fetched()
        # Half of the lease is for what was learnt.
        self._until = time.monotonic() + policy.lease.total_seconds() / 2

    def ask(self, keys: list[str], slot: Slot) -> Fetched:
        """Ask for `keys` in the call that `slot` permits, and in more where VOD wants it so."""
        error = self._ask(keys, slot)
        if error is not None:
            self._narrow(keys, error)
        return self._fetched

    def _ask(self, keys: list[str], slot: Slot) -> VodUnavailableError | None:
        """One call; gives the error where it brought no answer at all."""
        self._fetched.probing |= slot.probing
        self._sleep(slot.wait.total_seconds())
        if slot.late() > _STALE:
            # This process stood still; others used the rate meanwhile, and what all of its threads held must not go out at once.
            slot = self._next_slot() or slot
            self._sleep(slot.wait.total_seconds())
        media_ids, reference_ids = split_keys(keys)
        self._fetched.calls += 1
        try:
            with departing(self._vod, slot, self._fetched.late):
                answer = call(self._vod, media_ids, reference_ids)
            self._fetched.answers.append((answer, slot.at))
        except (VodThrottledError, VodCredentialsError) as error:
            back_off(self._store, self._bucket, OPERATION, error, self._policy)
            self._fetched.returned |= dict.fromkeys(keys, error)
        except VodUnavailableError as error:
            phrase = "VOD's answer cannot be read" if isinstance(error, VodUnreadableError) else "VOD did not answer"
            log.warning(phrase, source=self._source, asked=len(keys), error=str(error), code=error.code)
            return error
        except VodRefusedError as error:
            if error.code == "InvalidVideo.NotFound" and not reference_ids:
                # Said of a whole batch it means that VOD knows none of them (vod-protocol 4.4).
                self._fetched.answers.append((Answer(request_id=error.request_id, missing=frozenset(media_ids)), slot.at))
            elif len(keys) == 1:
                self._fetched.refused[keys[0]] = error
            else:
                self._halve(keys, error)
        return None

    def _narrow(self, keys: list[str], error: VodUnavailableError) -> None:
        """One id may be what makes VOD fail each time: keys that failed before are halved, for as long as one half is answered.

        Where neither is, that is an outage and no id's fault.
        """
        failed = [(keys, error)]
        if len(keys) > 1 and self._again & set(keys) and time.monotonic() < self._until:
            middle = len(keys) // 2
            failed = []
            for half in (keys[:middle], keys[middle:]):
                slot = self._next_slot()
                if slot is None:
                    self._fetched.returned |= dict.fromkeys(half, error)
                elif (again := self._ask(half, slot)) is not None:
                    failed.append((half, again))
            if len(failed) == 1 or isinstance(error, VodUnreadableError):
                for half, again in failed:
                    self._narrow(half, again)
                return
        for half, again in failed:
            self._fetched.failed |= dict.fromkeys(half, again)

    def _halve(self, keys: list[str], error: VodError) -> None:
        middle = len(keys) // 2
        for half in (keys[:middle], keys[middle:]):
            slot = self._next_slot()
            if slot is None:
                self._fetched.returned |= dict.fromkeys(half, error)
            else:
                self.ask(half, slot)

    def _next_slot(self) -> Slot | None:
        """A slot for one more call of the same claim; None where that would take so long that the lease is better given back."""
        rate, patience = self._policy.calls_per_second, self._policy.lease / 10
        slot = acquire(self._store, self._bucket, OPERATION, per_second=rate, patience=patience, sleep=self._sleep)
        return slot if isinstance(slot, Slot) else None


@contextmanager
def departing(vod: Vod, slot: Slot, late: dict[datetime, datetime]) -> Iterator[None]:
    """Around one call: where it left too late for its slot, `late` says when.

    The first calls of a client count where they are answered, because nobody knows when a connection stood.
    """
    warm, began = vod.is_warm, slot.late()
    try:
        yield
    finally:
        by = max(began, slot.late(vod.sent_at)) if warm else slot.late()
        if by > _PUNCTUAL:
            late[slot.at] = slot.at + by


def call(vod: Vod, media_ids: list[str], reference_ids: list[str]) -> Answer:
    """One call of BatchGetMediaInfos. Raises VodError."""
    try:
        return read_answer(vod.batch_get_media_infos(media_ids, reference_ids))
    except VodError:
        raise
    except Exception as error:
        # A fault of ours must cost what a fault of VOD costs: an attempt, and in the end the media that cause it.
        raise VodUnreadableError(f"vodsync could not read VOD's answer: {type(error).__name__}") from error


def back_off(store: Store, bucket: str, operation: str, error: VodThrottledError | VodCredentialsError, policy: Policy) -> None:
    """Nobody calls this operation with this quota for a while; what VOD says of the account holds for every medium."""
    if isinstance(error, VodCredentialsError):
        pause, level = policy.credentials_pause, log.error
    else:
        pause, level = timedelta(seconds=error.retry_after) if error.retry_after else policy.throttle_pause, log.warning
    store.transact(lambda connection: RateLimiter(connection).back_off(bucket, operation, pause, fault=str(error)))
    seconds = pause.total_seconds()
    level("source held back", source=bucket, operation=operation, seconds=seconds, code=error.code, error=str(error))
