"""Start a job and wait for it: which job is started, what is shown meanwhile, and the exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.jobs_harness import Harness
from tests.worker_fakes import AwayStore
from worker.cli.output import Exit
from worker.store import Store
from worker.store.installation_health import NO_WORKER
from worker.store.jobs.job_rows import Jobs, JobState
from worker.store.tables import job, worker

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    made = Harness(monkeypatch, store)
    made.beat()
    return made


def nothing() -> None:
    """Let time pass."""


# Start


def test_a_job_is_started_without_waiting_for_its_end(harness: Harness) -> None:
    result = harness.run("reconcile", "--full")

    (started,) = harness.jobs()
    assert (result.exit_code, harness.time.pauses) == (Exit.DONE, [])
    assert (started.kind, started.source, started.state) == ("reconcile", "default", JobState.RUNNING)
    assert started.parameters == {"full": True, "allow_mass_delete": False, "dry_run": False}
    assert f"vodsync jobs show {started.id}" in result.stderr
    assert result.stdout == ""


def test_a_started_job_is_printed_as_json(harness: Harness) -> None:
    result = harness.run("reconcile", "--json")

    assert json.loads(result.stdout)["id"] == harness.jobs()[0].id


def test_the_same_job_is_not_started_twice(harness: Harness) -> None:
    harness.run("reconcile")

    result = harness.run("reconcile")

    assert result.exit_code == Exit.DONE
    assert len(harness.jobs()) == 1
    assert "already exists" in result.stderr


def test_a_job_with_other_parameters_is_refused_while_one_runs(harness: Harness) -> None:
    harness.run("reconcile")

    result = harness.run("reconcile", "--full")

    (started,) = harness.jobs()
    assert result.exit_code == Exit.FAILED
    assert started.parameters["full"] is False
    assert f"vodsync jobs cancel {started.id}" in result.stderr


# The end


@pytest.mark.parametrize(
    ("state", "error", "counters", "code", "part_of_text"),
    [
        (JobState.DONE, None, {"listed": 3}, Exit.DONE, "listed: 3"),
        (JobState.DONE, None, {"fetched": 3, "dead": 0}, Exit.DONE, "fetched: 3"),
        (JobState.DONE, None, {"fetched": 3, "dead": 2}, Exit.FAILED, "vodsync failures list"),
        (JobState.FAILED, "no right", {}, Exit.FAILED, "no right"),
    ],
)
def test_the_exit_code_depends_on_how_a_job_ended(
    harness: Harness, state: JobState, error: str | None, counters: dict[str, int], code: Exit, part_of_text: str
) -> None:
    harness.time.script = [lambda: harness.finish(state, error, **counters)]

    result = harness.run("backfill", "--wait")

    assert result.exit_code == code
    assert part_of_text in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("change", "state"), [(Jobs.pause, JobState.PAUSED), (Jobs.cancel, JobState.CANCELLED)])
def test_waiting_ends_with_a_failure_if_another_process_stops_the_job(
    harness: Harness, store: Store, change: Any, state: JobState
) -> None:
    def stop() -> None:
        started = harness.jobs()[0]
        store.transact(lambda connection: change(Jobs(connection), started.id, now=started.created_at))

    harness.time.script = [nothing, stop]

    result = harness.run("backfill", "--wait")

    assert result.exit_code == Exit.FAILED
    assert state in result.stderr


def test_examples_are_printed_at_the_end(harness: Harness, store: Store) -> None:
    def finish() -> None:
        harness.finish(listed=3)
        with store.engine.begin() as connection:
            connection.execute(job.update().values(checkpoint={"examples": {"missed": ["a", "b"]}}))

    harness.time.script = [finish]

    result = harness.run("reconcile", "--dry-run", "--wait")

    assert "missed, such as: a, b" in result.stderr


def test_ctrl_c_leaves_the_job_running(harness: Harness) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    harness.time.script = [interrupt]

    result = harness.run("backfill", "--wait")

    (started,) = harness.jobs()
    assert (result.exit_code, started.state) == (130, JobState.RUNNING)
    assert f"vodsync jobs cancel {started.id}" in result.stderr


def test_waiting_continues_after_a_database_outage(harness: Harness, store: Store) -> None:
    def leave() -> None:
        vars(harness.runtime)["store"] = AwayStore()

    def come_back() -> None:
        vars(harness.runtime)["store"] = store

    harness.time.script = [leave, come_back, harness.finish]

    result = harness.run("backfill", "--wait")

    assert result.exit_code == Exit.DONE
    assert harness.time.pauses == [0.5, 5, 0.5]
    assert result.stderr.count("away") == 1


# Progress


def lines(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_programs_read_a_line_every_ten_seconds_with_rate_and_seconds_left(harness: Harness) -> None:
    # 42 assets in 10.5 seconds.
    harness.time.script = [
        *[nothing] * 19,
        lambda: harness.count(total=82, listed=42),
        *[nothing] * 20,
        lambda: harness.finish(listed=82),
    ]

    result = harness.run("backfill", "--wait", "--json")

    progress = [
        (line["state"], line["counters"].get("listed"), line["media_per_second"], line["seconds_left"]) for line in lines(result)
    ]
    assert result.exit_code == Exit.DONE
    assert progress[0] == (JobState.RUNNING, None, None, None)
    assert progress[1] == (JobState.RUNNING, 42, 4.0, 10)
    assert progress[-1] == (JobState.DONE, 82, None, None)
    assert len(progress) == 3


def test_people_read_a_line_every_ten_seconds_without_a_terminal(harness: Harness) -> None:
    harness.time.script = [lambda: harness.count(listed=42), *[nothing] * 41, harness.finish]

    result = harness.run("backfill", "--wait")

    progress = [line for line in result.stderr.splitlines() if "/s" in line]
    assert [line.split(", ")[-1] for line in progress] == ["4/s", "2/s"]
    assert all("listed: 42" in line for line in progress)


def test_a_missing_worker_is_named_every_quarter_of_a_minute_while_a_job_makes_no_progress(harness: Harness, store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(worker.delete())
    harness.time.script = [*[nothing] * 64, harness.finish]

    result = harness.run("backfill", "--wait")

    assert result.stderr.count(NO_WORKER) == 2


def test_a_missing_worker_is_not_named_after_recent_progress(harness: Harness, store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(worker.delete())
    # It makes progress for ten seconds and none for ten.
    harness.time.script = [*[lambda: harness.count(listed=len(harness.time.pauses))] * 20, *[nothing] * 20, harness.finish]

    result = harness.run("backfill", "--wait")

    assert NO_WORKER not in result.stderr


def test_the_error_of_a_failed_step_is_printed(harness: Harness) -> None:
    harness.time.script = [lambda: harness.fail_step("VOD is not available"), *[nothing] * 32, harness.finish]

    result = harness.run("backfill", "--wait")

    hints = [line for line in result.stderr.splitlines() if line.startswith("vodsync: VOD is not available")]
    assert len(hints) == 1
    assert "tried again" in hints[0]
