"""What does a large library cost? Minutes, and gigabytes of disk: measured only when asked for by name."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.idle import family
from benchmarks.installation import ServerMissingError
from benchmarks.library import find, run, start, unchanged, unlimited
from benchmarks.report import Measure, at_most
from worker.store.jobs.job_rows import FINAL_STATES
from worker.sync.jobs import backfill

_PART = "large"

#: Our processes, by the verb that starts them.
_ROLES = {"work": "the larger of two workers", "serve": "the receiver", "emulate": "the emulator"}

_SEARCHES, _GROWTH = at_most(1_020), at_most(1.3)


def measure(*, quick: bool) -> Iterator[Measure]:
    small, large = (2_000, 20_000) if quick else (10_000, 1_000_000)
    try:
        yield from _reconciled(20_000 if quick else 100_000)
        (_, before), (seconds, after) = _peak(small), _peak(large)
        for role in after:
            note = f"{before[role] / 1024:.0f} MB beside {after[role] / 1024:.0f} MB; {seconds:.0f} s for the larger"
            name = f"{role} with {large:,} beside {small:,} media"
            yield Measure(_PART, name, [after[role] / before[role]], "x", _GROWTH, note=note)
    except ServerMissingError as error:
        yield Measure(_PART, "a large library on PostgreSQL", wanted=_GROWTH, note=str(error))


def _reconciled(count: int) -> Iterator[Measure]:
    with unlimited(count) as (installation, api):
        run(installation, backfill.KIND)
        yield from unchanged(installation, api, count, _SEARCHES)


def _peak(count: int) -> tuple[float, dict[str, int]]:
    """Seconds of a whole backfill, and the most memory that a process of each role ever held, in kilobytes."""
    with unlimited(count) as (installation, _):
        installation.start("serve")
        installation.wait_until_ready()
        began = time.monotonic()
        started = start(installation, backfill.KIND)
        while find(installation, started.id).state not in FINAL_STATES:
            time.sleep(1)
        return time.monotonic() - began, _most()


def _most() -> dict[str, int]:
    most: dict[str, int] = {}
    for pid in family(os.getpid())[1:]:
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        role = _ROLES.get(arguments[arguments.index("worker") + 1]) if "worker" in arguments else None
        if role:
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            most[role] = max(most.get(role, 0), int(peak[1]) if peak else 0)
    return most
