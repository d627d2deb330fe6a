"""A few thousand inputs for each target of tests/fuzz; `python -m tests.fuzz` takes as many as you have time for."""

from __future__ import annotations

import pytest

from tests.fuzz.running import run
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize(("target", "inputs"), [("receiver", 3000), ("events", 4000), ("answers", 1500), ("secrets", 4000)])
def test_nothing_is_found_in_a_few_thousand_inputs(target: str, inputs: int) -> None:
    fed = TARGETS[target]()
    try:
        summary = run(fed, inputs=inputs, seed=2026)
    finally:
        fed.close()

    assert [f"{finding.number}: {finding.complaint}\n{finding.case[:2000]}" for finding in summary.findings.values()] == []
    assert summary.inputs == inputs
    # A generator that makes only rubbish would find nothing either.
    assert len(summary.tally) > 1
