"""How many calls does a burst of 12,000 notifications for 2,000 media cost?"""

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

_MEDIA = 2_000

#: A hundred full calls, and a little for the first and the last.
_CALLS = at_most(105)
_NEVER = at_most(0)
_BATCH = at_most(20)


def measure(*, quick: bool) -> Iterator[Measure]:
    for pair in (SQLITE, POSTGRESQL):
        try:
            with installed(pair) as installation:
                yield from _bursts(pair, installation, shuffled=not quick)
        except ServerMissingError as error:
            yield Measure(_PART, f"{pair}: calls", wanted=_CALLS, note=str(error))


def _bursts(pair: Pair, installation: Installation, *, shuffled: bool) -> Iterator[Measure]:
    vod = installation.start_emulator("--media", str(2 * _MEDIA))
    installation.start("serve")
    for arguments in (["--beat"], []):
        installation.start("work", *arguments)
    installation.wait_until_ready()
    wait_until(lambda: _count(installation, tables.worker) == 2, "both workers had started")
    media_ids = vod.get("/emulator/media", params={"limit": 2 * _MEDIA}).json()["media_ids"]
    first = _burst(installation, vod, media_ids[:_MEDIA], shuffled=False)
    yield from _describe(f"{pair}, in order", first, _CALLS)
    if shuffled:
        second = _burst(installation, vod, media_ids[_MEDIA:], shuffled=True)
        yield from _describe(f"{pair}, shuffled", second, None)


def _burst(installation: Installation, vod: httpx.Client, media_ids: list[str], *, shuffled: bool) -> dict[str, Any]:
    """What the emulator counted, and the seconds until the last notification was answered, and the last row stored."""
    vod.delete("/emulator/calls")
    before = _count(installation, tables.media)
    started = time.monotonic()
    bodies = notices.lives(media_ids, shuffled=shuffled)
    result = load.run(load.Job(port=installation.port, headers=installation.signed(), bodies=bodies))
    if result.refused:
        raise RuntimeError(f"{result.refused} notifications were refused")

    def finished() -> bool:
        return _count(installation, tables.media) == before + len(media_ids) and not _unasked(installation)

    wait_until(finished, "every medium was stored", patience=120, pause=0.1)
    counted: dict[str, Any] = vod.get("/emulator/calls").json()["BatchGetMediaInfos"]
    return counted | {"accepted_after": result.seconds, "stored_after": time.monotonic() - started}


def _describe(name: str, counted: dict[str, Any], wanted: Wanted | None) -> Iterator[Measure]:
    times = f"accepted in {counted['accepted_after']:.1f} s, stored after {counted['stored_after']:.1f} s"
    looked_up = f"{counted['media_ids']:,} look-ups, {counted['throttled']} throttled"
    yield Measure(_PART, f"{name}: calls", [counted["calls"]], wanted=wanted, note=f"{looked_up}; {times}")
    yield Measure(_PART, f"{name}: ids repeated in a call", [counted["repeated_in_call"]], wanted=_NEVER)
    yield Measure(_PART, f"{name}: largest call", [counted["largest_batch"]], "ids", _BATCH)


def _unasked(installation: Installation) -> int:
    """Requests that were not answered yet; media that VOD is still at work on are followed for long."""
    with installation.store.reading() as connection:
        return connection.execute(select(func.count()).where(tables.sync_request.c.waits == 0)).scalar_one()


def _count(installation: Installation, table: Table) -> int:
    with installation.store.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()
