"""`python -m tests.chaos [--minutes N] [--seed S] [--pair P…]`: a line for each run, exit 1 if something was lost."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
import typer

from tests.chaos.run import run


class Pair(StrEnum):
    """The names in PAIRS, for the option --pair."""

    SQLITE = "sqlite-embedded"
    POSTGRESQL = "postgresql-rabbitmq"
    MARIADB = "mariadb-redis"


def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="Duration of the faults on each pair.")] = 1,
    seed: Annotated[int | None, typer.Option(help="The same seed plans the same faults; a random one is printed.")] = None,
    pairs: Annotated[list[Pair] | None, typer.Option("--pair", help="Database and broker; all three by default.")] = None,
    per_second: Annotated[float, typer.Option("--rate", min=1, help="Notifications per second.")] = 30,
) -> None:
    """Inject random faults under load, then check whether anything was lost."""
    chosen_seed = secrets.randbelow(1_000_000) if seed is None else seed
    passed = True
    for pair in pairs or list(Pair):
        folder = Path(tempfile.mkdtemp(prefix=f"vodsync-chaos-{pair}-"))
        print(f"chaos {pair}: seed {chosen_seed}, {minutes:g} min, folder {folder}", file=sys.stderr)
        try:
            outcome = run(str(pair), folder, seed=chosen_seed, minutes=minutes, per_second=per_second)
        except pytest.skip.Exception as skipped:
            print(f"{pair}  skipped: {skipped}")
            shutil.rmtree(folder)
            # A pair that was named explicitly must not be skipped.
            passed = passed and not pairs
            continue
        print(outcome.summary(), flush=True)
        if outcome.passed:
            shutil.rmtree(folder)
            continue
        passed = False
        for sentence in (*outcome.lost[:5], *outcome.problems[:5]):
            print(f"  {sentence[:1000]}", file=sys.stderr)
        print(f"  logs and outcome.json: {folder}", file=sys.stderr)
    raise typer.Exit(int(not passed))


if __name__ == "__main__":
    typer.run(main)
