"""With light traffic, how long after the response 200 is the row stored?

The three pairs run at the same time, so that the load of the machine is the same for all. Only one notification is pending at a
time, so every batch waits for the whole linger. The linger and the API's response time are settings; both are subtracted.
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

_INTERVAL = 0.7  # seconds between two notifications
_POLL_INTERVAL = 0.003  # seconds between two queries for the row
_API = 0.1  # seconds of each response of the API
_TIMEOUT = 30.0  # seconds after which a notification counts as lost

_LINGER = Settings.model_fields["linger_ms"].default / 1000

_REQUIRED = at_most(150)

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
                yield Measure(_PART, f"{pair}: the same without linger and API time", wanted=_REQUIRED, note=missing[pair])
                continue
            seconds = measured[pair].result()
            remaining = [1000 * (duration - _LINGER - _API) for duration in seconds]
            note = f"linger {1000 * _LINGER:g} ms, API {1000 * _API:g} ms"
            yield Measure(
                _PART, f"{pair}: from response 200 to stored row", [1000 * duration for duration in seconds], "ms", note=note
            )
            yield Measure(_PART, f"{pair}: the same without linger and API time", remaining, "ms", _REQUIRED)


def _seconds(installation: Installation, media_ids: list[str], notifications: int) -> list[float]:
    """Return the seconds from response to row for each notification. The first few are a warm-up and do not count."""
    warm_up = 3
    measured = []
    with httpx.Client(timeout=10) as client:
        for media_id in media_ids[: notifications + warm_up]:
            content = notices.body(media_id, 1)
            client.post(installation.callback_url, content=content, headers=installation.signed()).raise_for_status()
            answered = time.perf_counter()
            measured.append(_until_stored(installation, media_id, answered) - answered)
            time.sleep(max(0.0, _INTERVAL - measured[-1]))
    return measured[warm_up:]


def _until_stored(installation: Installation, media_id: str, since: float) -> float:
    while time.perf_counter() < since + _TIMEOUT:
        with installation.store.reading() as connection:
            if connection.execute(_STORED, {"m": media_id}).first():
                return time.perf_counter()
        time.sleep(_POLL_INTERVAL)
    raise WaitTimeoutError(f"{media_id} was not stored within {_TIMEOUT:g} s")
