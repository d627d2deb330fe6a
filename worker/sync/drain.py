"""A wake-up's worth of work: batch after batch of every source until nothing is due, or it is time to let others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from worker.store import Store
from worker.sync.batch import BatchResult, sync_batch
from worker.sync.retry_policy import Policy
from worker.sync.video_info import look_up
from worker.vod import Vod

#: A wait up to this long (a batch filling up, the next slot of the quota) is sat out; a longer one ends the work.
_PATIENCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class SourceContext:
    """One source, how it is asked, and how often."""

    source: str
    vod: Vod
    policy: Policy
    #: Set where a batch owes look-ups of the single-video operation.
    owing: threading.Event = field(default_factory=threading.Event)


class ConcurrencyLimit:
    """Lets `most` threads of a process into a source at the same time, and knows how many are `inside`."""

    def __init__(self, most: int) -> None:
        self.inside = 0
        self._most = most
        self._held = threading.Lock()

    def enter(self) -> bool:
        """False where nobody else may come in now; whoever did leaves again."""
        with self._held:
            entered = self.inside < self._most
            self.inside += entered
        return entered

    def leave(self) -> None:
        with self._held:
            self.inside -= 1


#: By source; those that nothing is said of take any number of threads.
ConcurrencyLimits = Mapping[str, ConcurrencyLimit]


def concurrency_limits(sources: Collection[str], *, threads: int) -> ConcurrencyLimits:
    """Of several sources none gets all `threads` of a process, so that one whose VOD is slow does not keep the others waiting."""
    if len(sources) < 2:
        return {}
    return {source: ConcurrencyLimit(max(1, threads - 1)) for source in sources}


@dataclass(slots=True)
class DrainResult:
    """`more_waiting`: the work ended because of its bounds, not because nothing was due."""

    batches: int = 0
    more_waiting: bool = False


def drain(
    store: Store,
    source_contexts: Mapping[str, SourceContext],
    *,
    now: Callable[[], datetime],
    stopping: threading.Event,
    wake_workers: Callable[[], object] = lambda: None,
    narrow: ConcurrencyLimits = MappingProxyType({}),
    most: int = 10,
    longest: timedelta = timedelta(seconds=20),
) -> DrainResult:
    """Sync batches until nothing is due, `most` were synced, `longest` has passed or `stopping` is set.

    `ring` has another thread, here or elsewhere, do the same beside this one; it is called at each full batch, and at each at all
    where there are other sources. Those with the fewest threads inside come first. A lane whose gate in `narrow` lets nobody in is
    passed over: those inside go on until nothing is due there. Raises StoreUnavailable.
    """
    worked = DrainResult()
    deadline = time.monotonic() + longest.total_seconds()
    while not stopping.is_set():
        waits: list[timedelta] = []
        before = worked.batches
        for source_context in sorted(
            source_contexts.values(),
            key=lambda source_context: narrow[source_context.source].inside if source_context.source in narrow else 0,
        ):
            gate = narrow.get(source_context.source)
            if gate is not None and not gate.enter():
                continue
            try:
                report = _sync(
                    store, source_context, now=now(), stopping=stopping, wake_workers=wake_workers, alone=len(source_contexts) == 1
                )
            finally:
                if gate is not None:
                    gate.leave()
            if report.claimed:
                worked.batches += 1
            elif report.wait is not None:
                waits.append(report.wait)
        if worked.batches >= most or time.monotonic() >= deadline:
            worked.more_waiting = worked.batches > before or bool(waits)
            break
        if worked.batches > before:
            continue
        if not waits or min(waits) > _PATIENCE:
            break
        stopping.wait(min(waits).total_seconds())
    return worked


def _sync(
    store: Store,
    source_context: SourceContext,
    *,
    now: datetime,
    stopping: threading.Event,
    wake_workers: Callable[[], object],
    alone: bool,
) -> BatchResult:
    source, policy, sleep = source_context.source, source_context.policy, stopping.wait
    report = sync_batch(
        store, source_context.vod, now=now, source=source, policy=policy, sleep=sleep, wake_workers=wake_workers, alone=alone
    )
    if source_context.policy.video_info and report.media_ids:
        source_context.owing.set()
    return report


def look_up_all(store: Store, source_context: SourceContext, *, now: Callable[[], datetime], stopping: threading.Event) -> None:
    """Make the look-ups that are owed until none can be made now. Raises StoreUnavailable."""
    while not stopping.is_set():
        looked = look_up(
            store, source_context.vod, now=now(), source=source_context.source, policy=source_context.policy, stopping=stopping
        )
        if looked.claimed:
            continue
        if looked.wait is None or looked.wait > _PATIENCE:
            return
        stopping.wait(looked.wait.total_seconds())
