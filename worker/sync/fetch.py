"""Call BatchGetMediaInfos for one claim, and split the batch if VOD refuses it."""

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
from worker.core.ids import is_invalid_key, split_keys
from worker.core.media import Answer
from worker.core.normalise import read_answer
from worker.outage import Outage
from worker.store import Store
from worker.store.inbox.sync_requests import Claim
from worker.store.rate_limit import BATCH_GET_MEDIA_INFOS, RateLimiter, Slot
from worker.sync.rate_limit import acquire
from worker.sync.retry_policy import RetryPolicy
from worker.sync.source_context import SourceContext
from worker.vod import Vod

log = logs.get(__name__)

#: A call that starts later than its slot by more than this counts from the time of its start.
_MAX_DELAY = timedelta(milliseconds=10)

#: A slot that was missed by more than this is not used any more.
_MAX_SLOT_AGE = timedelta(seconds=0.5)

_INVALID_ID = (
    "a notification names an id that VOD's API does not accept, which has 1 to 64 characters of A-Z, a-z, 0-9, _ and -; "
    "find the asset at VOD and fetch it with: vodsync sync ID"
)


@dataclass(slots=True)
class FetchResult:
    """The results of the calls for one claim. Keys are those of the claimed requests; each has at most one error."""

    #: Each answer with the time of its request to VOD.
    answers: list[tuple[Answer, datetime]] = field(default_factory=list)
    #: Errors of requests that VOD refused.
    refused: dict[str, VodError] = field(default_factory=dict)
    #: Errors of requests that VOD did not answer.
    failed: dict[str, VodError] = field(default_factory=dict)
    #: Errors of requests that are due again unchanged, because the error does not concern them: no attempt is counted.
    put_back: dict[str, VodError] = field(default_factory=dict)
    #: How many calls were made.
    calls: int = 0
    #: The real start of each call that started later than its slot, by the time of the slot.
    late: dict[datetime, datetime] = field(default_factory=dict)
    #: The calls before these failed for the whole source.
    probing: bool = False


class Fetcher:
    """Makes the calls for one claim."""

    def __init__(self, store: Store, context: SourceContext, claim: Claim, *, sleep: Callable[[float], object]) -> None:
        self._store = store
        self._context = context
        self._sleep = sleep
        #: Keys of requests that failed before.
        self._failed_before = {request.media_id for request in claim.requests if request.attempts}
        self._result = FetchResult()
        # The second half of the lease is for storing the results.
        self._deadline = time.monotonic() + context.settings.lease.total_seconds() / 2

    def fetch(self, keys: list[str], slot: Slot) -> FetchResult:
        """Return the results for `keys`: the call that `slot` permits, and further calls if the batch has to be split.

        Raises StoreUnavailableError if the rate limit cannot be read.
        """
        invalid = [key for key in keys if is_invalid_key(key)]
        self._result.refused |= {key: VodRefusedError(_INVALID_ID) for key in invalid}
        keys = [key for key in keys if not is_invalid_key(key)]
        error = self._call(keys, slot) if keys else None
        if error is not None:
            self._isolate(keys, error)
        return self._result

    def _call(self, keys: list[str], slot: Slot) -> VodUnavailableError | None:
        """Make one call and record its result. Return the error if VOD did not answer; the caller records that."""
        self._result.probing |= slot.probing
        self._sleep(slot.wait.total_seconds())
        if slot.late() > _MAX_SLOT_AGE:
            # This process was suspended. Other workers used the rate meanwhile, so its threads must not all call at once now.
            slot = self._next_slot() or slot
            self._sleep(slot.wait.total_seconds())
        media_ids, reference_ids = split_keys(keys)
        self._result.calls += 1
        try:
            with record_late_start(self._context.vod, slot, self._result.late):
                answer = get_media_infos(self._context.vod, media_ids, reference_ids)
            self._result.answers.append((answer, slot.at))
        except (VodThrottledError, VodCredentialsError) as error:
            back_off(self._store, self._context.rate_limit_name, BATCH_GET_MEDIA_INFOS, error, self._context.settings.retry)
            self._result.put_back |= dict.fromkeys(keys, error)
        except VodUnavailableError as error:
            phrase = "VOD's answer cannot be read" if isinstance(error, VodUnreadableError) else "VOD did not answer"
            outage = self._context.unanswered
            if outage.failed(str(error), kind=phrase):
                fields = {"source": self._context.source, "requested": len(keys), "unlogged": outage.unlogged}
                log.warning(phrase, **fields, error=str(error), code=error.code)
            return error
        except VodRefusedError as error:
            if error.code == "InvalidVideo.NotFound" and not reference_ids:
                # For a whole batch it means that VOD knows none of the ids (vod-protocol 4.4).
                self._result.answers.append((Answer(request_id=error.request_id, missing=frozenset(media_ids)), slot.at))
            elif len(keys) == 1:
                self._result.refused[keys[0]] = error
            else:
                self._split(keys, error)
        return None

    def _isolate(self, keys: list[str], error: VodUnavailableError) -> None:
        """Split a batch that VOD did not answer, as one id may be the cause. Only if some of the keys failed before.

        If neither half is answered, that is an outage, and no id is the cause. An unreadable answer proves that VOD works, so both
        halves are split further.
        """
        failed = [(keys, error)]
        if len(keys) > 1 and self._failed_before & set(keys) and time.monotonic() < self._deadline:
            failed = []
            for half in _halves(keys):
                slot = self._next_slot()
                if slot is None:
                    self._result.put_back |= dict.fromkeys(half, error)
                elif (half_error := self._call(half, slot)) is not None:
                    failed.append((half, half_error))
            if len(failed) == 1 or isinstance(error, VodUnreadableError):
                for half, half_error in failed:
                    self._isolate(half, half_error)
                return
        for half, half_error in failed:
            self._result.failed |= dict.fromkeys(half, half_error)

    def _split(self, keys: list[str], error: VodError) -> None:
        """Fetch each half of a refused batch by itself, until the id that VOD refuses is alone."""
        for half in _halves(keys):
            slot = self._next_slot()
            if slot is None:
                self._result.put_back |= dict.fromkeys(half, error)
            else:
                self.fetch(half, slot)

    def _next_slot(self) -> Slot | None:
        """Return a slot for one more call of this claim; None if waiting for it would use up too much of the lease."""
        settings = self._context.settings
        slot = acquire(
            self._store,
            self._context.rate_limit_name,
            BATCH_GET_MEDIA_INFOS,
            per_second=settings.calls_per_second,
            max_wait=settings.lease / 10,
            sleep=self._sleep,
        )
        return slot if isinstance(slot, Slot) else None


def _halves(keys: list[str]) -> tuple[list[str], list[str]]:
    middle = len(keys) // 2
    return keys[:middle], keys[middle:]


@contextmanager
def record_late_start(vod: Vod, slot: Slot, late: dict[datetime, datetime]) -> Iterator[None]:
    """Run one call inside this context. If it starts too late for its slot, add the real start to `late`, by the slot's time.

    The first calls of a client count from the end of the call, because the time at which the connection was open is unknown.
    """
    warm, delay_before = vod.is_warm, slot.late()
    try:
        yield
    finally:
        delay = max(delay_before, slot.late(vod.sent_at)) if warm else slot.late()
        if delay > _MAX_DELAY:
            late[slot.at] = slot.at + delay


def get_media_infos(vod: Vod, media_ids: list[str], reference_ids: list[str]) -> Answer:
    """Return the answer of one call of BatchGetMediaInfos. Raises VodError."""
    try:
        return read_answer(vod.batch_get_media_infos(media_ids, reference_ids))
    except VodError:
        raise
    except Exception as error:
        # A bug in vodsync must be handled like a failure of VOD: it costs an attempt, and its cause ends as a dead letter.
        raise VodUnreadableError(f"vodsync could not read VOD's answer: {type(error).__name__}") from error


#: When back-offs of this process are logged. The end is not logged: throttled and other answers alternate.
_back_offs = Outage()


def back_off(
    store: Store, rate_limit_name: str, operation: str, error: VodThrottledError | VodCredentialsError, policy: RetryPolicy
) -> None:
    """Stop all workers from calling `operation` for a while: the error concerns the account, not an asset."""
    if isinstance(error, VodCredentialsError):
        pause, write_log = policy.credentials_pause, log.error
    else:
        pause, write_log = timedelta(seconds=error.retry_after) if error.retry_after else policy.throttle_pause, log.warning
    store.transact(lambda connection: RateLimiter(connection).back_off(rate_limit_name, operation, pause, fault=str(error)))
    if _back_offs.failed(str(error), kind=f"{rate_limit_name} {operation} {type(error).__name__}"):
        fields = {"source": rate_limit_name, "operation": operation, "seconds": pause.total_seconds()}
        write_log("source backed off", **fields, code=error.code, error=str(error), unlogged=_back_offs.unlogged)
