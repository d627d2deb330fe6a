"""Start other vodsync processes, which run the same code as this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import worker

#: Settings of vodsync start with one of these.
_SETTING_PREFIXES = ("VODSYNC_", "ALIBABA_CLOUD_")


def vodsync_command(*arguments: str) -> list[str]:
    """Return the command that runs `vodsync` with these arguments. Run it with `child_environment()`.

    -P keeps the working directory out of the child's import path. With a plain `python -m worker`, a foreign `worker.py` in that
    directory would run in place of vodsync.
    """
    return [sys.executable, "-P", "-m", "worker", *arguments]


def child_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which a child process imports the package `worker` that this process runs.

    PYTHONPATH stays in force. Its entries become absolute, because a child may run in another directory. Our own folder is added if
    this process found it only through the working directory, as in a source tree that is not installed.
    """
    entries = [os.path.abspath(entry) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    folder = Path(worker.__file__).resolve().parents[1]
    # Without -P, Python puts the working directory or the script's directory first.
    inherited = sys.path if sys.flags.safe_path else sys.path[1:]
    if folder not in {Path(entry).resolve() for entry in inherited}:
        entries.append(str(folder))
    return {**environment, "PYTHONPATH": os.pathsep.join(entries)} if entries else dict(environment)


def isolated_environment(**settings: str) -> dict[str, str]:
    """Return an environment for a child with exactly these settings: no setting of vodsync is inherited."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_SETTING_PREFIXES)}
    return child_environment(inherited | settings)
