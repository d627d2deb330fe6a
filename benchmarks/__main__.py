"""`python -m benchmarks [PART…] [--quick] [--json]`: what was promised beside what is, in a table."""

from __future__ import annotations

import importlib
import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import report


class Part(StrEnum):
    """Each has a module of the same name, whose docstring says what it asks."""

    ACCEPT = "accept"
    CALLS = "calls"
    LATENCY = "latency"
    SAVING = "saving"
    IDLE = "idle"
    STARTUP = "startup"
    OUTAGE = "outage"
    LIBRARY = "library"
    LARGE = "large"


#: Half an hour, and gigabytes: only by name.
_LONG = {Part.LARGE}


def main(
    parts: Annotated[list[Part] | None, typer.Argument(help="What to measure; everything but `large` by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter passes, wider ranges.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The measures as JSON.")] = False,
) -> None:
    """Measure vodsync on this machine. Exit 1 where a number is not what the project promises, or could not be measured."""
    progress = Console(stderr=True, highlight=False)
    measures: list[report.Measure] = []
    for part in parts or [part for part in Part if part not in _LONG]:
        started = time.monotonic()
        with progress.status(f"measuring {part}"):
            measures += importlib.import_module(f"benchmarks.{part}").measure(quick=quick)
        progress.print(f"{part}: {time.monotonic() - started:.0f} s")
    (report.print_json if as_json else report.print_table)(measures)
    raise typer.Exit(int(any(measure.met is False for measure in measures)))


if __name__ == "__main__":
    typer.run(main)
