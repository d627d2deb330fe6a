"""How does a large library affect calls and memory? Needs half an hour and gigabytes of disk, so it runs only if it is named."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.idle import family
from benchmarks.installation import ServerMissingError
from benchmarks.library import find, reconcile_unchanged, run, start, unlimited
from benchmarks.report import Measure, at_most
from worker.store.jobs.job_rows import FINAL_STATES
from worker.sync.jobs import backfill

_PART = "large"

#: The measured processes by the verb that starts them.
_ROLES = {"work": "larger of two workers", "serve": "receiver", "emulate": "emulator"}

_SEARCH_CALLS = at_most(1_020)
_GROWTH = at_most(1.3)


def measure(*, quick: bool) -> Iterator[Measure]:
    small, large = (2_000, 20_000) if quick else (10_000, 1_000_000)
    try:
        yield from _reconciled(20_000 if quick else 100_000)
        (_, before), (seconds, after) = _peak(small), _peak(large)
        for role in after:
            note = f"{before[role] / 1024:.0f} MB and {after[role] / 1024:.0f} MB; {seconds:.0f} s for the larger library"
            name = f"peak memory of the {role}, {large:,} relative to {small:,} assets"
            yield Measure(_PART, name, [after[role] / before[role]], "×", _GROWTH, note=note)
    except ServerMissingError as error:
        yield Measure(_PART, "peak memory with a large library, PostgreSQL + RabbitMQ", wanted=_GROWTH, note=str(error))


def _reconciled(count: int) -> Iterator[Measure]:
    with unlimited(count) as (installation, api):
        run(installation, backfill.KIND)
        yield from reconcile_unchanged(installation, api, count, _SEARCH_CALLS)


def _peak(count: int) -> tuple[float, dict[str, int]]:
    """Return the seconds of a whole backfill and the peak memory of each role in kilobytes."""
    with unlimited(count) as (installation, _):
        installation.start("serve")
        installation.wait_until_ready()
        started_at = time.monotonic()
        started = start(installation, backfill.KIND)
        while find(installation, started.id).state not in FINAL_STATES:
            time.sleep(1)
        return time.monotonic() - started_at, _peak_memory()


def _peak_memory() -> dict[str, int]:
    kilobytes: dict[str, int] = {}
    for pid in family(os.getpid())[1:]:
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        role = _ROLES.get(arguments[arguments.index("worker") + 1]) if "worker" in arguments else None
        if role:
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            kilobytes[role] = max(kilobytes.get(role, 0), int(peak[1]) if peak else 0)
    return kilobytes
