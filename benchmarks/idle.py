"""What does an installation cost that has nothing to do, and how soon is it ready?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from benchmarks.installation import SQLITE, Installation, installed, wait_until
from benchmarks.report import Measure, at_most
from worker.core.errors import StoreUnavailableError
from worker.store import tables

_PART = "idle"

_MEGABYTES = at_most(320)
_PERCENT = at_most(2)
_READY = at_most(4)

#: Seconds after the start that do not count as idle.
_SETTLING = 3.0


def measure(*, quick: bool) -> Iterator[Measure]:
    starts, seconds = (1, 8.0) if quick else (3, 20.0)
    ready = []
    for _ in range(starts):
        with installed(SQLITE) as installation:
            pid, took = _start(installation)
            ready.append(took)
            if len(ready) == starts:
                time.sleep(_SETTLING)
                before = _cpu_seconds(pid)
                time.sleep(seconds)
                percent = 100 * (_cpu_seconds(pid) - before) / seconds
                pids = family(pid)
                note = f"{len(pids)} processes; shared pages counted once"
                yield Measure(_PART, "memory of all processes (PSS)", [_megabytes(pids, "Pss")], "MB", _MEGABYTES, note)
                yield Measure(_PART, "memory, shared pages counted each time (RSS)", [_megabytes(pids, "Rss")], "MB")
                yield Measure(_PART, f"CPU, of one core over {seconds:g} s", [percent], "%", _PERCENT)
    yield Measure(_PART, "from `vodsync up` to ready, worker included", ready, "s", _READY)


def _start(installation: Installation) -> tuple[int, float]:
    """The process id of `vodsync up`, and the seconds until it was ready and its worker had been heard of."""
    started = time.monotonic()
    pid = installation.start("up").pid
    installation.wait_until_ready()
    wait_until(lambda: _worker_heard(installation), "a worker was heard of")
    return pid, time.monotonic() - started


def _worker_heard(installation: Installation) -> bool:
    try:
        with installation.store.reading() as connection:
            return connection.execute(select(tables.worker.c.name)).first() is not None
    except StoreUnavailableError:
        return False


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def _megabytes(pids: list[int], measured: str) -> float:
    kilobytes = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith(f"{measured}:"))
    return kilobytes / 1024


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for each in family(pid):
        # The name stands in parentheses and may hold blanks; user and system time are the 12th and 13th field after it.
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
