"""Look for due work of each source every few seconds, with or without a broker."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from worker import runtime
from worker.background import BackgroundLoop
from worker.queue import tasks
from worker.queue.services.base import Service
from worker.sync.drain import concurrency_limits

#: The pause between two sweeps. The jitter spreads the sweeps of several workers.
INTERVAL = 2.0  # seconds
JITTER = 1.0  # seconds


class Sweeper(Service):
    """One thread for each source, and one more for its look-ups (VODSYNC_VIDEO_INFO=on).

    These threads serve no other source, so a source is served even if the others occupy the whole pool.
    """

    def loops(self, concurrency: int) -> Iterator[BackgroundLoop]:
        current = runtime.current()
        current.concurrency_limits = concurrency_limits(current.source_contexts, threads=concurrency)
        for source, context in current.source_contexts.items():
            yield BackgroundLoop(
                f"sweeper {source}",
                partial(_sweep, source),
                failure="sweep failed",
                initial_delay=_interval(),
                retry_delay=INTERVAL,
            )
            if context.settings.video_info:
                # Set when a batch of this worker leaves look-ups to do. The interval finds those of other workers.
                yield BackgroundLoop(
                    f"look-ups {source}",
                    partial(_look_up, source),
                    failure="look-ups failed",
                    initial_delay=_interval(),
                    retry_delay=INTERVAL,
                    wake_event=context.video_info_due,
                )


def _sweep(source: str) -> float:
    stopping = runtime.current().stopping
    # Without a broker only these threads do the work. So they continue until nothing is due.
    while tasks.work(source).more_waiting and not stopping.is_set():
        pass
    return _interval()


def _look_up(source: str) -> float:
    tasks.look_up(source)
    return _interval()


def _interval() -> float:
    return INTERVAL + random.uniform(0, JITTER)  # noqa: S311  # spreads the load; not a secret
