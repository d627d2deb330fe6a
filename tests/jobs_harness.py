"""An installation for tests of the verbs about jobs. Its worker is a script: each sleep of the verb runs the next action."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.fake_time import FakeTime
from worker import runtime, settings
from worker.store import Store
from worker.store.heartbeats import Heartbeat, Heartbeats
from worker.store.jobs.job_rows import Job, Jobs, JobState


class WorkerTime(FakeTime):
    """Each sleep of a verb runs the next function of `script`."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Callable[[], object]] = []
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.pauses.append(seconds)
        assert self.script, "the verb still waits after the last action of the script"
        self.script.pop(0)()


class Harness:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        self.store = store
        self.runtime = runtime.Runtime(settings.load(environ={}))
        vars(self.runtime)["store"] = store
        monkeypatch.setattr(runtime, "_current", self.runtime)
        self.time = WorkerTime()
        self.time.install(monkeypatch, "worker.cli.job_runs")
        self._tokens: dict[int, str] = {}

    def run(self, *arguments: str) -> Any:
        """Run a verb. Return its exit code, stdout and stderr."""
        from worker.cli.application import app

        return CliRunner().invoke(app, list(arguments))

    def start(self, kind: str = "backfill", *, source: str = "default", **parameters: Any) -> int:
        started, _ = self.store.transact(lambda connection: Jobs(connection).start(source, kind, parameters, now=self.store.now()))
        return started.id

    def find(self, job_id: int) -> Job:
        with self.store.reading() as connection:
            job = Jobs(connection).find(job_id)
        assert job is not None
        return job

    def jobs(self) -> list[Job]:
        with self.store.reading() as connection:
            return Jobs(connection).latest(limit=10)

    def beat(self) -> None:
        """Write the heartbeat of a worker."""
        now = self.store.now()
        self.store.transact(lambda connection: Heartbeats(connection).beat(Heartbeat("w:1", now, now, now)))

    # The worker, which works on the newest job

    def count(self, **counters: int) -> None:
        job = self.jobs()[0]
        token = self._claim(job)
        until = self.store.now() + timedelta(hours=1)
        assert self.store.transact(
            lambda connection: Jobs(connection).advance(
                job.id, token, job.checkpoint or {}, job.counters | counters, now=self.store.now(), until=until
            )
        )

    def fail_step(self, error: str) -> None:
        job = self.jobs()[0]
        token = self._claim(job)
        assert self.store.transact(lambda connection: Jobs(connection).release(job.id, token, at=self.store.now(), error=error))
        del self._tokens[job.id]

    def finish(self, state: JobState = JobState.DONE, error: str | None = None, **counters: int) -> None:
        if counters:
            self.count(**counters)
        job = self.jobs()[0]
        token = self._claim(job)
        assert self.store.transact(
            lambda connection: Jobs(connection).finish(job.id, token, state=state, now=self.store.now(), error=error)
        )

    def _claim(self, job: Job) -> str:
        if job.id not in self._tokens:
            claimed = self.store.transact(
                lambda connection: Jobs(connection).claim([job.source], [job.kind], now=self.store.now(), lease=timedelta(hours=1))
            )
            assert claimed is not None
            self._tokens[job.id] = claimed[1]
        return self._tokens[job.id]
