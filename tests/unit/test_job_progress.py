"""How much of a job is done, for people and programs that wait for it."""

from __future__ import annotations

import pytest

from tests.builders import NOON
from worker.cli import job_runs
from worker.store.jobs.job_rows import Job, JobState


@pytest.mark.parametrize(
    ("counters", "parameters", "checkpoint", "progress"),
    [
        ({}, {}, None, (0, None)),
        ({"listed": 5, "total": 9}, {}, None, (5, 9)),
        ({"read": 5, "total": 9}, {}, {"phase": "read"}, (5, 9)),
        ({"matched": 5}, {}, None, (5, None)),
        ({"total": 9, "listed": 9, "known": 2, "fetched": 3, "dead": 1}, {}, None, (6, 9)),
        ({"total": 9, "listed": 5, "known": 2}, {}, None, (2, 9)),
        ({"total": 9, "listed": 5, "known": 2}, {"dry_run": True}, None, (5, 9)),
        ({"listed": 9, "missed": 2, "changed": 3, "fetched": 1}, {}, {"phase": "settle"}, (1, 5)),
        ({"listed": 9, "missed": 2, "changed": 3, "fetched": 1}, {}, {"phase": "fetch"}, (1, 5)),
        ({"listed": 9, "missed": 2}, {}, {"phase": "list"}, (9, None)),
    ],
)
def test_progress_counts_fetched_assets_once_only_fetches_remain(
    counters: dict[str, int],
    parameters: dict[str, object],
    checkpoint: dict[str, object] | None,
    progress: tuple[int, int | None],
) -> None:
    job = Job(1, "default", "backfill", JobState.RUNNING, parameters, checkpoint, counters, NOON, NOON, None, None)

    assert job_runs._done_and_total(job) == progress
