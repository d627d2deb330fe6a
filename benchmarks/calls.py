"""How many calls does a burst of 12,000 notifications for 2,000 assets cost?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
from sqlalchemy import Table, func, select

from benchmarks import load, notices
from benchmarks.installation import POSTGRESQL, SQLITE, Installation, Pair, ServerMissingError, installed, wait_until
from benchmarks.report import Measure, Wanted, at_most
from worker.store import tables

_PART = "calls"

_ASSETS = 2_000

#: A hundred full calls, and a few because the first and last are not full.
_CALLS = at_most(105)
_NEVER = at_most(0)
_BATCH = at_most(20)


def measure(*, quick: bool) -> Iterator[Measure]:
    for pair in (SQLITE, POSTGRESQL):
        try:
            with installed(pair) as installation:
                yield from _bursts(pair, installation, shuffled=not quick)
        except ServerMissingError as error:
            yield Measure(_PART, f"{pair}: BatchGetMediaInfos calls", wanted=_CALLS, note=str(error))


def _bursts(pair: Pair, installation: Installation, *, shuffled: bool) -> Iterator[Measure]:
    vod = installation.start_emulator("--media", str(2 * _ASSETS))
    installation.start("serve")
    for arguments in (["--beat"], []):
        installation.start("work", *arguments)
    installation.wait_until_ready()
    wait_until(lambda: _count(installation, tables.worker) == 2, "both workers had started")
    media_ids = vod.get("/emulator/media", params={"limit": 2 * _ASSETS}).json()["media_ids"]
    first = _burst(installation, vod, media_ids[:_ASSETS], shuffled=False)
    yield from _describe(f"{pair}, notifications in order", first, _CALLS)
    if shuffled:
        second = _burst(installation, vod, media_ids[_ASSETS:], shuffled=True)
        yield from _describe(f"{pair}, notifications shuffled", second, None)


def _burst(installation: Installation, vod: httpx.Client, media_ids: list[str], *, shuffled: bool) -> dict[str, Any]:
    """Return the emulator's counters, the seconds until the last response, and the seconds until the last row."""
    vod.delete("/emulator/calls")
    before = _count(installation, tables.media)
    started = time.monotonic()
    bodies = notices.upload_events(media_ids, shuffled=shuffled)
    result = load.run(load.Job(port=installation.port, headers=installation.signed(), bodies=bodies))
    if result.refused:
        raise RuntimeError(f"{result.refused} notifications were refused")

    def finished() -> bool:
        return _count(installation, tables.media) == before + len(media_ids) and not _count_due(installation)

    wait_until(finished, "every asset was stored", timeout=120, pause=0.1)
    counters: dict[str, Any] = vod.get("/emulator/calls").json()["BatchGetMediaInfos"]
    return counters | {"accepted_after": result.seconds, "stored_after": time.monotonic() - started}


def _describe(name: str, counters: dict[str, Any], wanted: Wanted | None) -> Iterator[Measure]:
    seconds = f"accepted in {counters['accepted_after']:.1f} s, stored after {counters['stored_after']:.1f} s"
    fetched = f"{counters['media_ids']:,} ids fetched, {counters['throttled']} throttled"
    yield Measure(_PART, f"{name}: BatchGetMediaInfos calls", [counters["calls"]], wanted=wanted, note=f"{fetched}; {seconds}")
    yield Measure(_PART, f"{name}: ids repeated within a call", [counters["repeated_in_call"]], wanted=_NEVER)
    yield Measure(_PART, f"{name}: size of the largest call", [counters["largest_batch"]], "ids", _BATCH)


def _count_due(installation: Installation) -> int:
    """Return the number of open requests. Requests that wait for VOD do not count."""
    with installation.store.reading() as connection:
        return connection.execute(select(func.count()).where(tables.sync_request.c.waits == 0)).scalar_one()


def _count(installation: Installation, table: Table) -> int:
    with installation.store.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()
