"""Sync batch after batch of all sources, as one wake-up does, until nothing is due or the budget is used up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from worker.store import Store
from worker.sync.batch import sync_batch
from worker.sync.source_context import SourceContext
from worker.sync.video_info import fetch_video_infos

#: A shorter wait (a batch that fills, the next slot) is waited for; a longer one ends the work.
MAX_WAIT = timedelta(seconds=1)


class ConcurrencyLimit:
    """Lets at most `max_threads` threads of this process work on one source at the same time."""

    def __init__(self, max_threads: int) -> None:
        #: How many threads work on the source now.
        self.active = 0
        self._max_threads = max_threads
        self._lock = threading.Lock()

    def try_enter(self) -> bool:
        """Return False if the limit is reached. After True the caller must call `leave`."""
        with self._lock:
            entered = self.active < self._max_threads
            self.active += entered
        return entered

    def leave(self) -> None:
        with self._lock:
            self.active -= 1


#: By source. A source without an entry has no limit.
ConcurrencyLimits = Mapping[str, ConcurrencyLimit]


def concurrency_limits(sources: Collection[str], *, threads: int) -> ConcurrencyLimits:
    """Return limits that keep one thread free: a source that VOD answers slowly must not occupy all `threads` of a process."""
    if len(sources) < 2:
        return {}
    return {source: ConcurrencyLimit(max(1, threads - 1)) for source in sources}


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one call of `drain` may do before it returns."""

    batches: int = 10
    time: timedelta = timedelta(seconds=20)


@dataclass(slots=True)
class DrainResult:
    """`more_waiting`: the budget was used up before everything that is due was done."""

    batches: int = 0
    more_waiting: bool = False


def drain(
    store: Store,
    contexts: Mapping[str, SourceContext],
    *,
    now: Callable[[], datetime],
    stopping: threading.Event,
    wake_workers: Callable[[], object] = lambda: None,
    limits: ConcurrencyLimits = MappingProxyType({}),
    budget: Budget = Budget(),
) -> DrainResult:
    """Sync batches until nothing is due, the budget is used up or `stopping` is set.

    `wake_workers` lets another thread, of this or another process, do the same in parallel. It is called before each full batch,
    and before every batch if there are several sources. In each round the sources with the fewest active threads come first. A
    source whose limit is reached is skipped: the threads that work on it continue until nothing of it is due.

    Raises StoreUnavailableError.
    """
    result = DrainResult()
    deadline = time.monotonic() + budget.time.total_seconds()
    while not stopping.is_set():
        waits: list[timedelta] = []
        batches_before = result.batches
        for context in sorted(contexts.values(), key=lambda context: _active(limits, context)):
            limit = limits.get(context.source)
            if limit is not None and not limit.try_enter():
                continue
            try:
                batch = sync_batch(
                    store,
                    context,
                    now=now(),
                    sleep=stopping.wait,
                    wake_workers=wake_workers,
                    is_only_source=len(contexts) == 1,
                )
            finally:
                if limit is not None:
                    limit.leave()
            if context.settings.video_info and batch.media_ids:
                context.video_info_due.set()
            if batch.claimed:
                result.batches += 1
            elif batch.wait is not None:
                waits.append(batch.wait)
        if result.batches >= budget.batches or time.monotonic() >= deadline:
            result.more_waiting = result.batches > batches_before or bool(waits)
            break
        if result.batches > batches_before:
            continue
        if not waits or min(waits) > MAX_WAIT:
            break
        stopping.wait(min(waits).total_seconds())
    return result


def _active(limits: ConcurrencyLimits, context: SourceContext) -> int:
    limit = limits.get(context.source)
    return limit.active if limit else 0


def drain_video_infos(store: Store, context: SourceContext, *, now: Callable[[], datetime], stopping: threading.Event) -> None:
    """Make the pending calls of GetVideoInfo for one source, until none can be made now. Raises StoreUnavailableError."""
    while not stopping.is_set():
        result = fetch_video_infos(store, context, now=now(), stopping=stopping)
        if result.claimed:
            continue
        if result.wait is None or result.wait > MAX_WAIT:
            return
        stopping.wait(result.wait.total_seconds())
