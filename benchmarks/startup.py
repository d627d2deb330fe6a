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

_PRINTED = at_most(0.25)
_STATUS = at_most(0.45)

_COMMANDS = {"--version": _PRINTED, "--help": _PRINTED, "status": _STATUS}


def measure(*, quick: bool) -> Iterator[Measure]:
    passes = 3 if quick else 10
    with installed(SQLITE) as installation:
        for argument, wanted in _COMMANDS.items():
            # The first run compiles our modules, which an installed vodsync has behind it.
            seconds = [_run(argument, installation.environment, installation.place) for _ in range(passes + 1)][1:]
            yield Measure(_PART, f"`vodsync {argument}`", seconds, "s", wanted, "SQLite, output to a pipe")


def _run(argument: str, environment: dict[str, str], place: Path) -> float:
    cached = environment | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
    started = time.monotonic()
    subprocess.run(vodsync_command(argument), cwd=place, env=cached, capture_output=True, check=True)
    return time.monotonic() - started
