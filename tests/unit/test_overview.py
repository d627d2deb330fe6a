"""What an operator is told to look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.store.overview import Backlog, Overview
from worker.store.quota import Held
from worker.store.workers import Heartbeat

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def worker(*, seen: int, claimed: int | None) -> Heartbeat:
    """One that was last heard of, and last took work, so many seconds ago."""
    claimed_at = None if claimed is None else NOON - claimed * SECOND
    return Heartbeat("w:1", NOON - timedelta(hours=1), NOON - seen * SECOND, claimed_at)


def seen(*workers: Heartbeat, overdue: float = 60, dead: int = 0, held: tuple[Held, ...] = ()) -> Overview:
    backlog = Backlog(due=7, waiting=0, dead=dead, oldest_due_age=overdue)
    return Overview(NOON, backlog, {}, 0, list(workers), list(held))


@pytest.mark.parametrize(
    ("installation", "said"),
    [
        (seen(worker(seen=1, claimed=300)), "no worker takes them"),
        (seen(worker(seen=1, claimed=None)), "no worker takes them"),
        (seen(worker(seen=90, claimed=90)), "vodsync work"),
        (seen(), "vodsync work"),
        (seen(worker(seen=1, claimed=1), overdue=0, dead=2), "failures list"),
        (seen(worker(seen=1, claimed=1), held=(Held("default", "Op", "wrong keys", NOON, NOON),)), "wrong keys"),
    ],
)
def test_each_trouble_is_one_sentence_that_names_it(installation: Overview, said: str) -> None:
    (problem,) = installation.problems

    assert said in problem


@pytest.mark.parametrize(
    "installation", [seen(worker(seen=1, claimed=5)), seen(worker(seen=1, claimed=300), overdue=5), seen(overdue=0)]
)
def test_all_well_is_silence(installation: Overview) -> None:
    assert installation.problems == []
