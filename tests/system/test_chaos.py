"""A few seconds of `make chaos`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.chaos import plan
from tests.chaos.run import run
from tests.system.installation import PAIRS


@pytest.mark.parametrize("pair", list(PAIRS))
def test_random_faults_lose_no_notification_answered_with_200(tmp_path: Path, pair: str) -> None:
    outcome = run(pair, tmp_path, seed=11, minutes=0.2)

    assert (outcome.lost, outcome.problems, outcome.dead) == ([], [], 0), outcome.summary()
    assert outcome.kills >= 2
    assert outcome.accepted >= 20


def test_same_seed_plans_same_faults() -> None:
    first, again, other = (list(islice(plan.faults(seed, servers=True), 500)) for seed in (1, 1, 2))

    assert first == again != other
    assert first == sorted(first)
    assert {"kill", "stop", "cut", "freeze"} | plan.API_FAULTS.keys() == {fault.kind for fault in first}
