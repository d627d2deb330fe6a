"""`python -m tests.fuzz --inputs N --seed S [--target T]`: feed, and tell what was found."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from tests.fuzz.running import Summary, run
from tests.fuzz.targets import TARGETS

Name = StrEnum("Name", {name: name for name in TARGETS})  # type: ignore[misc]


def main(
    inputs: Annotated[int, typer.Option(help="For each target.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same inputs.")] = 1,
    target: Annotated[list[Name] | None, typer.Option(help="Only these; all by default.")] = None,
    first: Annotated[int, typer.Option(help="The number of the first input: to make one again.")] = 0,
) -> None:
    """Exit 1 where something was found."""
    found = False
    for name in target or list(Name):
        fed = TARGETS[name]()
        try:
            summary = run(fed, inputs=inputs, seed=seed, first=first, progress=_Progress(inputs))
        finally:
            fed.close()
        _print(summary, seed)
        found |= bool(summary.findings)
    raise typer.Exit(int(found))


class _Progress:
    def __init__(self, inputs: int) -> None:
        self._inputs = inputs
        self._said = -1.0

    def __call__(self, summary: Summary) -> None:
        if summary.seconds - self._said < (0.5 if sys.stderr.isatty() else 15) and summary.inputs < self._inputs:
            return
        self._said = summary.seconds
        line = f"{summary.target}: {summary.inputs:,} of {self._inputs:,} inputs, {len(summary.findings)} kinds of findings"
        end = "\r" if sys.stderr.isatty() and summary.inputs < self._inputs else "\n"
        print(line, end=end, file=sys.stderr, flush=True)


def _print(summary: Summary, seed: int) -> None:
    rate = summary.inputs / summary.seconds if summary.seconds else 0
    became = ", ".join(f"{word} {count:,}" for word, count in sorted(summary.tally.items()))
    print(f"{summary.target}: {summary.inputs:,} inputs in {summary.seconds:.0f} s ({rate:,.0f}/s): {became}")
    for finding in summary.findings.values():
        again = f"python -m tests.fuzz --target {finding.target} --seed {seed} --first {finding.number} --inputs 1"
        print(f"  {finding.times}x {finding.complaint.strip()}\n    {finding.case[:2000]}\n    {again}")


if __name__ == "__main__":
    typer.run(main)
