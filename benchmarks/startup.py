"""How long do commands take that only print something?"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.installation import SQLITE, installed
from benchmarks.report import Measure, at_most
from worker.cli.processes import vodsync_command

_PART = "startup"

_PRINT_SECONDS = at_most(0.25)
_STATUS_SECONDS = at_most(0.45)

_COMMANDS = {"--version": _PRINT_SECONDS, "--help": _PRINT_SECONDS, "status": _STATUS_SECONDS}


def measure(*, quick: bool) -> Iterator[Measure]:
    passes = 3 if quick else 10
    with installed(SQLITE) as installation:
        for argument, required in _COMMANDS.items():
            # The first run compiles the modules, so it does not count.
            seconds = [_run(argument, installation.environment, installation.folder) for _ in range(passes + 1)][1:]
            yield Measure(
                _PART, f"`vodsync {argument}`: time from start to end", seconds, "s", required, "SQLite, output to a pipe"
            )


def _run(argument: str, environment: dict[str, str], folder: Path) -> float:
    cached = environment | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    started = time.monotonic()
    subprocess.run(vodsync_command(argument), cwd=folder, env=cached, capture_output=True, check=True)
    return time.monotonic() - started
