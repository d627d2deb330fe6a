"""With light traffic, how long after the 200 answer does the row stand in the database?

The three pairs run side by side, so that they see the same machine. A notification arrives when its medium is alone, so every batch
waits the whole linger; that and the API's own time, which both are settings, are taken off.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
from sqlalchemy import bindparam, select

from benchmarks import notices
from benchmarks.installation import MARIADB, POSTGRESQL, SQLITE, Installation, Pair, ServerMissingError, WaitTimeoutError, installed
from benchmarks.report import Measure, at_most
from worker.settings import Settings
from worker.store import tables

_PART = "latency"

#: Seconds between two notifications, between two looks at the table, and for each answer of the API.
_SPACING, _LOOK, _API = 0.7, 0.003, 0.1

#: Seconds after which a notification counts as lost.
_PATIENCE = 30.0

_LINGER = Settings.model_fields["linger_ms"].default / 1000

_WANTED = at_most(150)

_STORED = select(tables.media.c.media_id).where(tables.media.c.source == "default", tables.media.c.media_id == bindparam("m"))


def measure(*, quick: bool) -> Iterator[Measure]:
    notifications = 10 if quick else 30
    running: dict[Pair, tuple[Installation, list[str]]] = {}
    with ExitStack() as stack, ThreadPoolExecutor(3) as threads:
        missing: dict[Pair, str] = {}
        for pair in (SQLITE, POSTGRESQL, MARIADB):
            try:
                installation = stack.enter_context(installed(pair))
            except ServerMissingError as error:
                missing[pair] = str(error)
                continue
            vod = installation.start_emulator("--media", "100", "--latency", str(_API))
            installation.start("serve")
            installation.start("work", "--beat")
            running[pair] = installation, vod.get("/emulator/media").json()["media_ids"]
        for installation, _ in running.values():
            installation.wait_until_ready()
        measured = {pair: threads.submit(_seconds, *running[pair], notifications) for pair in running}
        for pair in (SQLITE, POSTGRESQL, MARIADB):
            if pair in missing:
                yield Measure(_PART, f"{pair}: beyond linger and API", wanted=_WANTED, note=missing[pair])
                continue
            seconds = measured[pair].result()
            beyond = [1000 * (each - _LINGER - _API) for each in seconds]
            note = f"linger {1000 * _LINGER:g} ms, API {1000 * _API:g} ms"
            yield Measure(_PART, f"{pair}: 200 answer to row", [1000 * each for each in seconds], "ms", note=note)
            yield Measure(_PART, f"{pair}: beyond linger and API", beyond, "ms", _WANTED)


def _seconds(installation: Installation, media_ids: list[str], notifications: int) -> list[float]:
    """From answer to row, for each of `notifications`; the first few, which wake everything up, do not count."""
    warm_up = 3
    measured = []
    with httpx.Client(timeout=10) as client:
        for media_id in media_ids[: notifications + warm_up]:
            content = notices.body(media_id, 1)
            client.post(installation.callback_url, content=content, headers=installation.signed()).raise_for_status()
            answered = time.perf_counter()
            measured.append(_until_stored(installation, media_id, answered) - answered)
            time.sleep(max(0.0, _SPACING - measured[-1]))
    return measured[warm_up:]


def _until_stored(installation: Installation, media_id: str, since: float) -> float:
    while time.perf_counter() < since + _PATIENCE:
        with installation.store.reading() as connection:
            if connection.execute(_STORED, {"m": media_id}).first():
                return time.perf_counter()
        time.sleep(_LOOK)
    raise WaitTimeoutError(f"{media_id} was not stored within {_PATIENCE:g} s")
