"""`vodsync jobs`: lists and shows jobs, and changes their state if that is allowed."""

from __future__ import annotations

import json

import pytest

from tests.builders import request
from tests.jobs_harness import Harness
from worker.cli.output import Exit
from worker.store import Store
from worker.store.inbox.sync_requests import BACKFILL
from worker.store.jobs.job_rows import JobState

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


# List and show


def test_jobs_are_listed_the_newest_first_up_to_the_limit(harness: Harness) -> None:
    ids = [harness.start(), harness.start("reconcile", dry_run=True), harness.start("backfill", source="singapore")]
    harness.finish(JobState.FAILED, "no [right]")

    listed = harness.run("jobs", "list", "--json")
    limited = harness.run("jobs", "list", "--json", "--limit", "1")
    table = harness.run("jobs", "list")

    assert [job["id"] for job in json.loads(listed.stdout)] == ids[::-1]
    assert [job["id"] for job in json.loads(limited.stdout)] == ids[2:]
    assert "reconcile (dry run)" in table.stdout
    assert "no [right]" in table.stdout


def test_a_job_is_shown_with_all_its_fields(harness: Harness) -> None:
    job_id = harness.start(since=None)
    harness.count(listed=3)

    as_json = harness.run("jobs", "show", str(job_id), "--json")
    as_table = harness.run("jobs", "show", str(job_id))

    shown = json.loads(as_json.stdout)
    assert (shown["state"], shown["counters"], shown["parameters"]) == (JobState.RUNNING, {"listed": 3}, {"since": None})
    assert '{"listed": 3}' in as_table.stdout


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "cancel"])
def test_an_error_about_an_unknown_job_names_the_command_that_lists_jobs(harness: Harness, verb: str) -> None:
    result = harness.run("jobs", verb, "4711")

    assert result.exit_code == Exit.FAILED
    assert "vodsync jobs list" in result.stderr


# Pause, resume, cancel


@pytest.mark.parametrize(
    ("verb", "state", "after"),
    [
        ("pause", JobState.RUNNING, JobState.PAUSED),
        ("resume", JobState.PAUSED, JobState.RUNNING),
        ("cancel", JobState.RUNNING, JobState.CANCELLED),
        ("cancel", JobState.PAUSED, JobState.CANCELLED),
    ],
)
def test_a_change_that_fits_the_state_of_the_job_succeeds(harness: Harness, verb: str, state: JobState, after: JobState) -> None:
    job_id = harness.start()
    if state == JobState.PAUSED:
        harness.run("jobs", "pause", str(job_id))

    result = harness.run("jobs", verb, str(job_id))

    assert result.exit_code == Exit.DONE
    assert harness.find(job_id).state == after
    assert f"job {job_id}" in result.stderr


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        ("pause", JobState.PAUSED),
        ("pause", JobState.DONE),
        ("resume", JobState.RUNNING),
        ("resume", JobState.DONE),
        ("cancel", JobState.DONE),
        ("cancel", JobState.FAILED),
    ],
)
def test_a_change_that_does_not_fit_the_state_of_the_job_fails_and_changes_nothing(
    harness: Harness, verb: str, state: JobState
) -> None:
    job_id = harness.start()
    if state == JobState.PAUSED:
        harness.run("jobs", "pause", str(job_id))
    elif state != JobState.RUNNING:
        harness.finish(state)

    result = harness.run("jobs", verb, str(job_id))

    assert result.exit_code == Exit.FAILED
    assert harness.find(job_id).state == state


@pytest.mark.parametrize(("verb", "count"), [("pause", 1), ("cancel", 1), ("resume", 0)])
def test_a_job_that_is_stopped_reports_how_many_of_its_requests_are_still_fetched(
    harness: Harness, store: Store, verb: str, count: int
) -> None:
    job_id = harness.start()
    for reason in ("backfill", "reconcile"):
        request(store, f"requested-by-{reason}", priority=BACKFILL, reason=reason)
    if verb == "resume":
        harness.run("jobs", "pause", str(job_id))

    result = harness.run("jobs", verb, str(job_id))

    assert result.stderr.count("1 media that it requested") == count


# Times on the command line


@pytest.mark.parametrize(
    ("since", "stored"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00+08:00", "2026-01-31T04:00:00+00:00"),
    ],
)
def test_a_time_without_a_zone_is_utc(harness: Harness, since: str, stored: str) -> None:
    result = harness.run("backfill", "--since", since, "--until", "2026-02-01")

    assert result.exit_code == Exit.DONE
    assert harness.jobs()[0].parameters["since"] == stored


@pytest.mark.parametrize(
    ("arguments", "part_of_text"),
    [
        ("--since yesterday", "--since"),
        ("--until 2026-13-01", "--until"),
        ("--since 2026-02-01 --until 2026-01-31", "--since"),
    ],
)
def test_an_invalid_time_or_range_is_a_usage_error(harness: Harness, arguments: str, part_of_text: str) -> None:
    result = harness.run("backfill", *arguments.split())

    assert result.exit_code == Exit.USAGE
    assert part_of_text in result.stderr
    assert harness.jobs() == []


def test_a_range_may_begin_and_end_at_the_same_time(harness: Harness) -> None:
    assert harness.run("backfill", "--since", "2026-02-01", "--until", "2026-02-01").exit_code == Exit.DONE
