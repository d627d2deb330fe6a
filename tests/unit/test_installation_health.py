"""What an operator is told to look at."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.store.heartbeats import Heartbeat
from worker.store.installation_health import Backlog, InstallationHealth
from worker.store.jobs.job_rows import Job
from worker.store.outbox import PendingChanges
from worker.store.rate_limit import BackOff

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def worker(*, seen: int, claimed: int | None) -> Heartbeat:
    """One that was last heard of, and last took work, so many seconds ago."""
    claimed_at = None if claimed is None else NOON - claimed * SECOND
    return Heartbeat("w:1", NOON - timedelta(hours=1), NOON - seen * SECOND, claimed_at)


def seen(
    *workers: Heartbeat,
    overdue: float = 60,
    dead: int = 0,
    held: tuple[BackOff, ...] = (),
    unserved: dict[str, int] | None = None,
    changes: PendingChanges | None = None,
    jobs: tuple[Job, ...] = (),
    failing: dict[str, tuple[int, str]] | None = None,
    stranded: int = 0,
) -> InstallationHealth:
    backlog = Backlog(due=7, waiting=0, dead=dead, oldest_due_age=overdue)
    served = Backlog(due=0, waiting=0, dead=0, oldest_due_age=0) if unserved else backlog
    return InstallationHealth(
        NOON, backlog, {}, 0, list(workers), list(held), served, unserved or {}, changes, jobs, failing or {}, stranded
    )


FAILED = Job(7, "default", "reconcile", "failed", {}, None, {}, NOON, NOON, NOON, "too many are gone")
AGAIN = Job(8, "default", "backfill", "running", {}, {}, {}, NOON, NOON, None, "no answer")
HELD = BackOff("default", "BatchGetMediaInfos", "wrong keys", NOON, NOON)
WITHOUT_KEYS = BackOff("beta", "credentials", "none", NOON, NOON)


@pytest.mark.parametrize(
    ("installation", "said"),
    [
        (seen(worker(seen=1, claimed=300)), "no worker claims them"),
        (seen(worker(seen=1, claimed=None)), "no worker claims them"),
        (seen(worker(seen=90, claimed=90)), "vodsync work"),
        (seen(), "vodsync work"),
        (seen(worker(seen=90, claimed=90), overdue=0), "the last worker did not shut down cleanly"),
        (seen(overdue=0, stranded=1), "1 long run waits, and no worker is alive"),
        (seen(worker(seen=1, claimed=1), overdue=0, dead=2), "failures list"),
        (seen(worker(seen=1, claimed=1), overdue=0, jobs=(FAILED,)), "reconcile 7 of source default failed: too many are gone"),
        (seen(worker(seen=1, claimed=1), overdue=0, jobs=(AGAIN,)), "backfill 8 of source default is being retried: no answer"),
        (seen(worker(seen=1, claimed=1), overdue=0, failing={"default": (3, "502")}), "3 sync requests of source default failed"),
        (seen(worker(seen=1, claimed=300), held=(HELD,)), "wrong keys"),
        (seen(worker(seen=1, claimed=1), overdue=0, held=(WITHOUT_KEYS,)), "none (since 12:00:00 UTC)"),
        (seen(worker(seen=1, claimed=300), unserved={"beta": 7}), "7 sync requests belong to source beta"),
        (seen(worker(seen=1, claimed=1), changes=PendingChanges(3, NOON - 40 * SECOND)), "3 changes are not published since"),
    ],
)
def test_each_trouble_is_one_sentence_that_names_it(installation: InstallationHealth, said: str) -> None:
    (problem,) = installation.problems

    assert said in problem


def test_a_failed_run_is_told_with_the_advice_at_its_end() -> None:
    refused = replace(FAILED, last_error=f"too many are gone, such as {'0' * 400}; if that is right: --allow-mass-delete")

    (problem,) = seen(worker(seen=1, claimed=1), overdue=0, jobs=(refused,)).problems

    assert "--allow-mass-delete (vodsync jobs show 7)" in problem


def test_dead_workers_are_named_while_a_source_is_held_back() -> None:
    installation = seen(worker(seen=90, claimed=90), held=(HELD,))

    held, dead = installation.problems

    assert "wrong keys" in held
    assert "no worker is alive" in dead


@pytest.mark.parametrize(
    "installation",
    [
        seen(worker(seen=1, claimed=5)),
        seen(worker(seen=1, claimed=300), overdue=5),
        seen(overdue=0),
        seen(worker(seen=1, claimed=5), overdue=0, stranded=1),
        seen(overdue=0, changes=PendingChanges(3, NOON - SECOND)),
        seen(overdue=0, changes=PendingChanges(0, None)),
    ],
)
def test_all_well_is_silence(installation: InstallationHealth) -> None:
    assert installation.problems == []


def test_changes_are_shown_only_where_there_is_a_feed() -> None:
    assert "changes" not in seen(overdue=0).as_json()
    assert seen(overdue=0, changes=PendingChanges(0, None)).as_json()["changes"] == {"count": 0, "since": None}
