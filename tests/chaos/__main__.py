"""`python -m tests.chaos [--minutes N] [--seed S] [--pair P…]`: a line for each run, exit 1 if a promise was broken."""

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
from tests.system.installation import PAIRS

Pair = StrEnum("Pair", {name: name for name in PAIRS})


def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="How long each pair is under fire.")] = 1,
    seed: Annotated[int | None, typer.Option(help="The same seed plans the same faults; a random one is printed.")] = None,
    pairs: Annotated[list[Pair] | None, typer.Option("--pair", help="Database and broker; all three by default.")] = None,
    per_second: Annotated[float, typer.Option("--rate", min=1, help="Notifications per second.")] = 30,
) -> None:
    """Kill, cut, freeze and refuse at random under load, then see whether anything was lost."""
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    kept = True
    for pair in pairs or list(Pair):
        folder = Path(tempfile.mkdtemp(prefix=f"vodsync-chaos-{pair}-"))
        print(f"chaos {pair}: seed {chosen}, {minutes:g} min, folder {folder}", file=sys.stderr)
        try:
            outcome = run(str(pair), folder, seed=chosen, minutes=minutes, per_second=per_second)
        except pytest.skip.Exception as skipped:
            print(f"{pair}  skipped: {skipped}")
            shutil.rmtree(folder)
            # Who names a pair wants to know about it.
            kept = kept and not pairs
            continue
        print(outcome.summary(), flush=True)
        if outcome.kept:
            shutil.rmtree(folder)
            continue
        kept = False
        for sentence in (*outcome.lost[:5], *outcome.complaints[:5]):
            print(f"  {sentence[:1000]}", file=sys.stderr)
        print(f"  logs and outcome.json: {folder}", file=sys.stderr)
    raise typer.Exit(int(not kept))


if __name__ == "__main__":
    typer.run(main)
