"""What does a large library cost? Minutes, and gigabytes of disk: measured only when asked for by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from benchmarks.idle import family
from benchmarks.installation import ServerMissing
from benchmarks.library import find, run, start, unchanged, unlimited
from benchmarks.report import Measure, at_most
from worker.store.jobs import OVER
from worker.sync import backfill

_PART = "large"

_SEARCHES, _GROWTH = at_most(1_020), at_most(1.3)


def measure(*, quick: bool) -> Iterator[Measure]:
    small, large = (2_000, 20_000) if quick else (10_000, 1_000_000)
    try:
        yield from _reconciled(20_000 if quick else 100_000)
        (_, before), (seconds, after) = _peak(small), _peak(large)
        note = f"{before / 1024:.0f} MB beside {after / 1024:.0f} MB; {seconds:.0f} s for the larger"
        name = f"the largest process with {large:,} beside {small:,} media"
        yield Measure(_PART, name, [after / before], "x", _GROWTH, note=note)
    except ServerMissing as error:
        yield Measure(_PART, "a large library on PostgreSQL", wanted=_GROWTH, note=str(error))


def _reconciled(count: int) -> Iterator[Measure]:
    with unlimited(count) as (installation, api):
        run(installation, backfill.KIND)
        yield from unchanged(installation, api, count, _SEARCHES)


def _peak(count: int) -> tuple[float, int]:
    """Seconds of a whole backfill, and the most memory that any process of ours ever held, in kilobytes."""
    with unlimited(count) as (installation, _):
        began = time.monotonic()
        started = start(installation, backfill.KIND)
        while find(installation, started.id).state not in OVER:
            time.sleep(1)
        return time.monotonic() - began, _most()


def _most() -> int:
    most = 0
    for pid in family(os.getpid())[1:]:
        with open(f"/proc/{pid}/status") as status:
            most = max([most, *(int(line.split()[1]) for line in status if line.startswith("VmHWM"))])
    return most
