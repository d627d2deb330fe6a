"""A few seconds of what `make chaos` does for as long as one likes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.chaos import plan
from tests.chaos.run import run
from tests.system.installation import PAIRS


@pytest.mark.parametrize("pair", list(PAIRS))
def test_nothing_that_was_answered_200_is_lost_under_fire(tmp_path: Path, pair: str) -> None:
    outcome = run(pair, tmp_path, seed=11, minutes=0.2)

    assert (outcome.lost, outcome.complaints, outcome.dead) == ([], [], 0), outcome.summary()
    assert outcome.kills >= 2
    assert outcome.answered >= 20


def test_the_same_seed_plans_the_same_faults() -> None:
    first, again, other = (list(islice(plan.faults(seed, servers=True), 500)) for seed in (1, 1, 2))

    assert first == again != other
    assert first == sorted(first)
    assert {"kill", "stop", "cut", "freeze"} | plan.API_FAULTS.keys() == {fault.kind for fault in first}
