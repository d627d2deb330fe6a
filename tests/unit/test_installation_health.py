"""The problems that `status` and `doctor` show to the operator."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.store.heartbeats import Heartbeat
from worker.store.installation_health import Backlog, InstallationHealth
from worker.store.jobs.job_rows import Job, JobState
from worker.store.outbox import PendingChanges
from worker.store.rate_limit import BackOff

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def worker(*, seen: int, claimed: int | None) -> Heartbeat:
    """Return a worker whose last heartbeat is `seen` seconds old, and whose last claim is `claimed` seconds old."""
    claimed_at = None if claimed is None else NOON - claimed * SECOND
    return Heartbeat("w:1", NOON - timedelta(hours=1), NOON - seen * SECOND, claimed_at)


def health(
    *workers: Heartbeat,
    overdue: float = 60,
    dead: int = 0,
    back_offs: tuple[BackOff, ...] = (),
    unserved: dict[str, int] | None = None,
    changes: PendingChanges | None = None,
    jobs: tuple[Job, ...] = (),
    failing: dict[str, tuple[int, str]] | None = None,
    overdue_jobs: int = 0,
    clocks_ahead: dict[str, timedelta] | None = None,
) -> InstallationHealth:
    backlog = Backlog(due=7, waiting=0, dead=dead, oldest_due_age=overdue)
    served = Backlog(due=0, waiting=0, dead=0, oldest_due_age=0) if unserved else backlog
    return InstallationHealth(
        seen_at=NOON,
        backlog=backlog,
        media={},
        notifications=0,
        workers=list(workers),
        back_offs=list(back_offs),
        served=served,
        unserved=unserved or {},
        changes=changes,
        jobs=jobs,
        failing=failing or {},
        overdue=overdue_jobs,
        clocks_ahead=clocks_ahead or {},
    )


FAILED_JOB = Job(7, "default", "reconcile", JobState.FAILED, {}, None, {}, NOON, NOON, NOON, "too many are gone")
RETRIED_JOB = Job(8, "default", "backfill", JobState.RUNNING, {}, {}, {}, NOON, NOON, None, "no answer")
BACK_OFF = BackOff("default", "BatchGetMediaInfos", "wrong keys", NOON, NOON)
WITHOUT_KEYS = BackOff("beta", "credentials", "none", NOON, NOON)


@pytest.mark.parametrize(
    ("installation", "part_of_text"),
    [
        (health(worker(seen=1, claimed=300)), "no worker claims them"),
        (health(worker(seen=1, claimed=None)), "no worker claims them"),
        (health(worker(seen=90, claimed=90)), "vodsync work"),
        (health(), "vodsync work"),
        (health(worker(seen=90, claimed=90), overdue=0), "the last worker did not shut down cleanly"),
        (health(overdue=0, overdue_jobs=1), "1 long run waits, and no worker is alive"),
        (health(worker(seen=1, claimed=1), overdue=0, dead=2), "failures list"),
        (
            health(worker(seen=1, claimed=1), overdue=0, jobs=(FAILED_JOB,)),
            "reconcile 7 of source default failed: too many are gone",
        ),
        (
            health(worker(seen=1, claimed=1), overdue=0, jobs=(RETRIED_JOB,)),
            "backfill 8 of source default is being retried: no answer",
        ),
        (health(worker(seen=1, claimed=1), overdue=0, failing={"default": (3, "502")}), "3 sync requests of source default failed"),
        (health(worker(seen=1, claimed=300), back_offs=(BACK_OFF,)), "wrong keys"),
        (health(worker(seen=1, claimed=1), overdue=0, back_offs=(WITHOUT_KEYS,)), "none (since 12:00:00 UTC)"),
        (health(worker(seen=1, claimed=300), unserved={"beta": 7}), "7 sync requests belong to source beta"),
        (health(worker(seen=1, claimed=1), changes=PendingChanges(3, NOON - 40 * SECOND)), "3 changes are not published since"),
        (
            health(worker(seen=1, claimed=1), overdue=0, clocks_ahead={"a": 2 * MINUTE, "b": SECOND, "c": -MINUTE}),
            "the clock of a is 120 s ahead of the database's; synchronise both machines by NTP",
        ),
        (
            health(worker(seen=1, claimed=1), overdue=0, clocks_ahead={"a": -5 * MINUTE}),
            "the clock of a is 300 s behind the database's; synchronise both machines by NTP",
        ),
    ],
)
def test_each_problem_is_one_sentence_that_names_its_cause(installation: InstallationHealth, part_of_text: str) -> None:
    (problem,) = installation.problems

    assert part_of_text in problem


def test_the_problem_of_a_failed_job_contains_the_whole_advice() -> None:
    failed_job = replace(FAILED_JOB, last_error=f"too many are gone, such as {'0' * 400}; if that is right: --allow-mass-delete")

    (problem,) = health(worker(seen=1, claimed=1), overdue=0, jobs=(failed_job,)).problems

    assert "--allow-mass-delete (vodsync jobs show 7)" in problem


def test_dead_workers_are_a_problem_while_a_source_is_backed_off() -> None:
    installation = health(worker(seen=90, claimed=90), back_offs=(BACK_OFF,))

    back_off, dead_workers = installation.problems

    assert "wrong keys" in back_off
    assert "no worker is alive" in dead_workers


@pytest.mark.parametrize(
    "installation",
    [
        health(worker(seen=1, claimed=5)),
        health(worker(seen=1, claimed=300), overdue=5),
        health(overdue=0),
        health(worker(seen=1, claimed=5), overdue=0, overdue_jobs=1),
        health(overdue=0, changes=PendingChanges(3, NOON - SECOND)),
        health(overdue=0, changes=PendingChanges(0, None)),
    ],
)
def test_an_installation_without_problems_shows_none(installation: InstallationHealth) -> None:
    assert installation.problems == []


def test_pending_changes_are_shown_only_if_there_is_a_change_feed() -> None:
    assert "changes" not in health(overdue=0).as_json()
    assert health(overdue=0, changes=PendingChanges(0, None)).as_json()["changes"] == {"count": 0, "since": None}
