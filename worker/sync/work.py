"""A wake-up's worth of work: batch after batch of every source until nothing is due, or it is time to let others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.store import Store
from worker.sync.batch import sync_batch
from worker.sync.policy import Policy
from worker.sync.video_info import add_video_info
from worker.vod import Vod

#: A wait up to this long (a batch filling up, the next slot of the quota) is sat out; a longer one ends the work.
_PATIENCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Lane:
    """One source, how it is asked, how often, and whether the single-video operation is asked too."""

    source: str
    vod: Vod
    policy: Policy
    video_info: bool = False


@dataclass(slots=True)
class Worked:
    """`more_waiting`: the work ended because of its bounds, not because nothing was due."""

    batches: int = 0
    more_waiting: bool = False


def work_off(
    store: Store,
    lanes: Mapping[str, Lane],
    *,
    now: Callable[[], datetime],
    stopping: threading.Event,
    most: int = 10,
    longest: timedelta = timedelta(seconds=20),
) -> Worked:
    """Sync batches until nothing is due, `most` were synced, `longest` has passed or `stopping` is set.

    Raises StoreUnavailable.
    """
    worked = Worked()
    deadline = time.monotonic() + longest.total_seconds()
    while not stopping.is_set():
        waits: list[timedelta] = []
        before = worked.batches
        for lane in lanes.values():
            report = sync_batch(store, lane.vod, now=now(), source=lane.source, policy=lane.policy, sleep=stopping.wait)
            if report.claimed:
                worked.batches += 1
                if lane.video_info:
                    add_video_info(store, lane.vod, lane.source, report.media_ids, bucket=lane.policy.bucket, sleep=stopping.wait)
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
