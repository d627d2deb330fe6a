"""Notifications on their way to the callback URL, with VOD's patience: 5 seconds, three tries, then thrown away.

Every medium has one event under way at a time, so its events arrive in order; media do not wait for each other. A try that
failed gives its connection back before it pauses, so that a dead receiver does not slow the dropping.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import msgspec

from worker.emulator.config import EmulatorConfig
from worker.emulator.faults import Mischief

log = logging.getLogger(__name__)

USER_AGENT = "Apache-HttpClient/4.4.1 (Java/1.8.0_152)"


class Script(Protocol):
    """The events of one medium, made only when their time has come."""

    def __len__(self) -> int: ...

    def due(self, number: int) -> float:
        """Unix seconds of event `number`."""
        ...

    def body(self, number: int) -> dict[str, Any]: ...


@dataclass(slots=True)
class Errand:
    """Where the telling of one script stands."""

    script: Script
    number: int = 0
    tries: int = 0
    body: bytes = b""


def callback_signature(url: str, timestamp: str, key: str) -> str:
    """X-VOD-SIGNATURE (vod-protocol 1.3); the body is not covered."""
    return hashlib.md5(f"{url}|{timestamp}|{key}".encode(), usedforsecurity=False).hexdigest()


class Notifier:
    """Delivers scripts. Without a callback URL nothing is sent and nothing counted."""

    def __init__(self, config: EmulatorConfig, mischief: Mischief) -> None:
        self._config = config
        self._mischief = mischief
        self._agenda: list[tuple[float, int, Errand]] = []
        self._order = itertools.count()
        self._news = asyncio.Event()
        self._slots = asyncio.Semaphore(config.callback_connections)
        self._under_way: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._counts = Counter[str]()
        self._refused: Counter[str] = Counter()

    def tell(self, script: Script) -> None:
        """Put the events of `script` on the agenda."""
        if self._config.callback_url and len(script):
            self._pending += len(script)
            self._plan(Errand(script), script.due(0))

    def as_dict(self) -> dict[str, Any]:
        """Counters: `events` that have come up, of which each ends as delivered, dropped or lost; `pending` counts those that
        have not ended, also the ones whose time is still to come."""
        names = ("events", "delivered", "dropped", "lost", "attempts")
        return {**{name: self._counts[name] for name in names}, "pending": self._pending, "refused_by_status": dict(self._refused)}

    async def run(self) -> None:
        """Work off the agenda until cancelled."""
        config = self._config
        if not config.callback_url:
            return
        # Redirects are not followed, the proxies of the environment are none of VOD's business.
        limits = httpx.Limits(max_connections=config.callback_connections, max_keepalive_connections=config.callback_connections)
        async with httpx.AsyncClient(
            timeout=config.callback_timeout,
            limits=limits,
            follow_redirects=False,
            trust_env=False,
            verify=config.callback_url.startswith("https:"),
        ) as client:
            try:
                while True:
                    errand = await self._next()
                    await self._slots.acquire()
                    task = asyncio.create_task(self._run_errand(client, errand))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
            finally:
                for task in self._under_way:
                    task.cancel()
                await asyncio.gather(*self._under_way, return_exceptions=True)

    def _plan(self, errand: Errand, due: float) -> None:
        heapq.heappush(self._agenda, (due, next(self._order), errand))
        self._news.set()

    async def _next(self) -> Errand:
        while True:
            self._news.clear()
            wait = self._agenda[0][0] - time.time() if self._agenda else None
            if wait is not None and wait <= 0:
                return heapq.heappop(self._agenda)[2]
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _run_errand(self, client: httpx.AsyncClient, errand: Errand) -> None:
        if errand.tries == 0:
            # Composed once: the tries of one event carry the same body.
            errand.body = msgspec.json.encode(errand.script.body(errand.number))
            self._counts["events"] += 1
            if self._mischief.strikes("lost_notifications"):
                self._slots.release()
                self._finish(errand, "lost")
                return
        errand.tries += 1
        self._counts["attempts"] += 1
        try:
            outcome = await self._attempt(client, errand.body)
        finally:
            self._slots.release()
        if outcome == "200":
            self._finish(errand, "delivered")
            return
        self._refused[outcome] += 1
        if errand.tries < self._config.callback_tries:
            self._plan(errand, time.time() + self._config.callback_pause)
            return
        log.warning("notification dropped: %d tries, the last one ended with %s", errand.tries, outcome)
        self._finish(errand, "dropped")

    async def _attempt(self, client: httpx.AsyncClient, body: bytes) -> str:
        """The status of the answer as text, or a word where there was none."""
        config = self._config
        headers = {"content-type": "application/json", "user-agent": USER_AGENT, "accept-encoding": "gzip,deflate"}
        if config.callback_key:
            timestamp = str(int(time.time()))
            headers["X-VOD-TIMESTAMP"] = timestamp
            headers["X-VOD-SIGNATURE"] = callback_signature(config.callback_url, timestamp, config.callback_key)
        try:
            async with asyncio.timeout(config.callback_timeout):
                answer = await client.post(config.callback_url, content=body, headers=headers)
        except TimeoutError:
            return "timeout"
        except httpx.HTTPError:
            return "unreachable"
        return str(answer.status_code)

    def _finish(self, errand: Errand, ending: str) -> None:
        self._counts[ending] += 1
        self._pending -= 1
        errand.number += 1
        errand.tries = 0
        errand.body = b""
        if errand.number < len(errand.script):
            self._plan(errand, errand.script.due(errand.number))
