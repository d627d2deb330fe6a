"""Run threads beside the Celery pool for as long as the worker runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from celery import bootsteps

from worker import runtime
from worker.background import BackgroundLoop, join_all


class Service(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """A Celery bootstep with threads of its own. `celery_app.SERVICES` lists the services of a worker.

    Services start after the pool and before the worker connects to the broker, so they run with or without a broker.
    """

    requires = ("celery.worker.components:Pool",)

    #: How long the threads may take to finish their current step when the worker stops.
    grace_period: ClassVar[float] = 30.0  # seconds

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._loops: list[BackgroundLoop] = []

    def loops(self, concurrency: int) -> Iterable[BackgroundLoop]:
        """Return the threads to start. `concurrency` is the number of threads in the pool."""
        raise NotImplementedError

    def start(self, parent: Any) -> None:
        self._loops = list(self.loops(parent.concurrency))
        for loop in self._loops:
            loop.start()

    def stop(self, parent: Any) -> None:
        """Tell all threads to end and wait for them, for at most the grace period."""
        runtime.current().stopping.set()
        for loop in self._loops:
            loop.stop()
        join_all(self._loops, within=self.grace_period)

    #: Celery calls this instead of `stop` for an immediate shutdown.
    terminate = stop
