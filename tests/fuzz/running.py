"""Many inputs for one target, each made from a seed of its own, and what was found with them."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

#: Kept whole; of further findings of the same kind only the number.
_KINDS = 20


class Target(Protocol):
    """What is fed. `group` inputs go in together; `tally` counts what became of them."""

    name: str
    group: int
    tally: Counter[str]

    def make(self, rng: Random) -> Any:
        """One input; the same for the same state of `rng`."""
        ...

    def check(self, cases: Sequence[Any]) -> Iterable[tuple[Any, str]]:
        """Feed these; gives what is wrong, each with the input that showed it."""
        ...

    def close(self) -> None: ...


@dataclass
class Finding:
    """`number` makes the input again: `--first NUMBER --inputs 1` with the same seed."""

    target: str
    number: int
    complaint: str
    case: str
    times: int = 1


@dataclass
class Summary:
    target: str
    inputs: int = 0
    seconds: float = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)


def run(
    target: Target,
    *,
    inputs: int,
    seed: int,
    first: int = 0,
    progress: Callable[[Summary], object] = lambda summary: None,
) -> Summary:
    """Feed `inputs` inputs, beginning with number `first`."""
    summary = Summary(target.name, tally=target.tally)
    rng, began = Random(), time.monotonic()
    for start in range(first, first + inputs, target.group):
        numbered = []
        for number in range(start, min(start + target.group, first + inputs)):
            rng.seed(seed << 40 | number)
            numbered.append((number, target.make(rng)))
        _feed(target, numbered, summary)
        summary.inputs += len(numbered)
        summary.seconds = time.monotonic() - began
        progress(summary)
    return summary


def _feed(target: Target, numbered: Sequence[tuple[int, Any]], summary: Summary) -> None:
    by_case = {id(case): number for number, case in numbered}
    try:
        complaints = [(by_case[id(case)], case, complaint) for case, complaint in target.check([case for _, case in numbered])]
    except Exception:
        if len(numbered) > 1:
            for each in numbered:
                _feed(target, [each], summary)
            return
        complaints = [(*numbered[0], traceback.format_exc(limit=-6))]
    for number, case, complaint in complaints:
        kind = complaint.strip().splitlines()[0 if "Traceback" not in complaint else -1][:60]
        if kind in summary.findings:
            summary.findings[kind].times += 1
        elif len(summary.findings) < _KINDS:
            summary.findings[kind] = Finding(target.name, number, complaint, repr(case))
