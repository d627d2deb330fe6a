"""`python -m tests.mutation [MODULE…]`: the share of mutants that the tests notice, and those that they do not."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from tests.mutation.modules import TESTS
from tests.mutation.run import BrokenTestsError, ModuleResult, run_module

ROOT = Path(__file__).parents[2]


def main(
    modules: Annotated[list[str] | None, typer.Argument(help="Files to mutate, as listed in tests/mutation/modules.py.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Mutants for each module; 0 means all.")] = 20,
    seed: Annotated[int, typer.Option(help="Chooses the mutants: the same seed chooses the same ones.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Test runs at a time.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per module instead of the table.")] = False,
) -> None:
    """Print the score of each module, and the survivors. A survivor is a missing test, unused code, or makes no difference."""
    unknown = [name for name in modules or [] if name not in TESTS]
    if unknown:
        print(f"no tests are listed for {', '.join(unknown)}; add them to tests/mutation/modules.py", file=sys.stderr)
        raise typer.Exit(2)
    results = []
    with tempfile.TemporaryDirectory(prefix="vodsync-mutation-") as scratch:
        for module in modules or sorted(TESTS):
            started = time.monotonic()
            try:
                result = run_module(
                    ROOT,
                    Path(scratch),
                    module,
                    TESTS[module],
                    size=samples,
                    seed=seed,
                    jobs=jobs,
                    report=lambda line: print(f"survived  {line}", file=sys.stderr),
                )
            except BrokenTestsError as error:
                print(error, file=sys.stderr)
                raise typer.Exit(1) from error
            print_result(result, time.monotonic() - started, as_json=as_json)
            results.append(result)
    if not as_json:
        run, survivors = sum(result.run for result in results), sum(len(result.survivors) for result in results)
        print(f"{'all':40} {run - survivors:4} of {run:4} noticed {100 * (1 - survivors / run if run else 1):6.1f} %")


def print_result(result: ModuleResult, seconds: float, *, as_json: bool) -> None:
    if as_json:
        survivors = [{"line": mutant.line, "before": mutant.before, "after": mutant.after} for mutant in result.survivors]
        print(json.dumps(dataclasses.asdict(result) | {"score": result.score, "survivors": survivors}), flush=True)
        return
    noticed = result.run - len(result.survivors)
    print(
        f"{result.module:40} {noticed:4} of {result.run:4} noticed {100 * result.score:6.1f} %"
        f"   ({result.total} mutants exist, {seconds:.0f} s)",
        flush=True,
    )


if __name__ == "__main__":
    typer.run(main)
