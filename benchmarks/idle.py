"""How much memory and CPU does an installation without traffic use, and how soon is it ready?"""

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

_SETTLING = 3.0  # seconds after the start that are not measured


def measure(*, quick: bool) -> Iterator[Measure]:
    starts, seconds = (1, 8.0) if quick else (3, 20.0)
    ready_after: list[float] = []
    for _ in range(starts):
        with installed(SQLITE) as installation:
            pid, seconds_to_start = _start(installation)
            ready_after.append(seconds_to_start)
            if len(ready_after) == starts:
                time.sleep(_SETTLING)
                before = _cpu_seconds(pid)
                time.sleep(seconds)
                percent = 100 * (_cpu_seconds(pid) - before) / seconds
                pids = family(pid)
                note = f"{len(pids)} processes; shared pages counted once"
                yield Measure(
                    _PART,
                    "`vodsync up` without traffic: memory of all processes (PSS)",
                    [_megabytes(pids, "Pss")],
                    "MB",
                    _MEGABYTES,
                    note,
                )
                yield Measure(
                    _PART,
                    "`vodsync up` without traffic: memory of all processes (RSS)",
                    [_megabytes(pids, "Rss")],
                    "MB",
                    note="shared pages counted for each process",
                )
                yield Measure(
                    _PART, f"`vodsync up` without traffic: share of one core, over {seconds:g} s", [percent], "%", _PERCENT
                )
    yield Measure(_PART, "`vodsync up`: time until receiver and worker are ready", ready_after, "s", _READY)


def _start(installation: Installation) -> tuple[int, float]:
    """Start `vodsync up`. Returns its process id and the seconds until it was ready and its worker had a heartbeat."""
    started = time.monotonic()
    pid = installation.start("up").pid
    installation.wait_until_ready()
    wait_until(lambda: _has_heartbeat(installation), "a worker had a heartbeat")
    return pid, time.monotonic() - started


def _has_heartbeat(installation: Installation) -> bool:
    try:
        with installation.store.reading() as connection:
            return connection.execute(select(tables.worker.c.name)).first() is not None
    except StoreUnavailableError:
        return False


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    pids = [pid]
    for parent in pids:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            pids += map(int, children.read_text().split())
    return pids


def _megabytes(pids: list[int], measured: str) -> float:
    kilobytes = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith(f"{measured}:"))
    return kilobytes / 1024


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for member in family(pid):
        # The name is in parentheses and may contain blanks; user and system time are the 12th and 13th field after it.
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
