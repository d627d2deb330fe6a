"""Notifications on their way to the callback URL or into a queue, with VOD's patience: 5 seconds, three tries, then thrown away.

Every medium has one event under way at a time, so its events arrive in order; media do not wait for each other. A try that
failed gives its connection back before it pauses, so that a dead receiver does not slow the dropping.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import heapq
import itertools
import logging
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import msgspec

from worker.emulator.api.faults import FaultInjector
from worker.emulator.library.seeded_random import SeededRandom
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.smq.smq_queue import SmqQueue

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
class DeliveryAttempt:
    """Where the telling of one script stands, to the callback URL or to the queue."""

    script: Script
    queued: bool
    number: int = 0
    tries: int = 0
    body: bytes = b""


def callback_signature(url: str, timestamp: str, key: str) -> str:
    """X-VOD-SIGNATURE (vod-protocol 1.3); the body is not covered."""
    return hashlib.md5(f"{url}|{timestamp}|{key}".encode(), usedforsecurity=False).hexdigest()


class Notifier:
    """Delivers scripts. With neither a callback URL nor a queue nothing is sent and nothing counted; with both, all of it twice."""

    def __init__(self, config: EmulatorConfig, mischief: FaultInjector, mailbox: SmqQueue) -> None:
        self._config = config
        self._mischief = mischief
        self._mailbox = mailbox
        self._agenda: list[tuple[float, int, DeliveryAttempt]] = []
        self._order = itertools.count()
        self._news = asyncio.Event()
        # Last in, first out: the connection that was used just now is the least likely to have been closed.
        self._idle: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        self._under_way: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._counts = Counter[str]()
        self._refused: Counter[str] = Counter()

    def tell(self, script: Script) -> None:
        """Put the events of `script` on the agenda."""
        for queued, wanted in ((False, self._config.callback_url), (True, self._config.smq_queue)):
            if wanted and len(script):
                self._pending += len(script)
                self._plan(DeliveryAttempt(script, queued), script.due(0))

    def as_dict(self) -> dict[str, Any]:
        """Counters: `events` that have come up, of which each ends as delivered, dropped or lost; `pending` counts those that
        have not ended, also the ones whose time is still to come."""
        names = ("events", "delivered", "dropped", "lost", "attempts")
        return {**{name: self._counts[name] for name in names}, "pending": self._pending, "refused_by_status": dict(self._refused)}

    async def run(self) -> None:
        """Work off the agenda until cancelled."""
        if not self._config.callback_url and not self._config.smq_queue:
            return
        async with AsyncExitStack() as stack:
            for client in self._make_clients():
                self._idle.put_nowait(await stack.enter_async_context(client))
            try:
                while True:
                    errand = await self._next()
                    if errand.queued:
                        self._write(errand)
                        continue
                    task = asyncio.create_task(self._run_errand(await self._idle.get(), errand))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
            finally:
                for task in self._under_way:
                    task.cancel()
                await asyncio.gather(*self._under_way, return_exceptions=True)

    def _make_clients(self) -> list[httpx.AsyncClient]:
        """One client for each connection: a single pool of many is only half as fast."""
        config = self._config
        one = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        verify = httpx.create_ssl_context() if config.callback_url.startswith("https:") else False
        # Redirects are not followed, and the proxies of the environment are none of VOD's business.
        return [
            httpx.AsyncClient(timeout=config.callback_timeout, limits=one, follow_redirects=False, trust_env=False, verify=verify)
            for _ in range(config.callback_connections)
        ]

    def _plan(self, errand: DeliveryAttempt, due: float) -> None:
        heapq.heappush(self._agenda, (due, next(self._order), errand))
        self._news.set()

    async def _next(self) -> DeliveryAttempt:
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

    async def _run_errand(self, client: httpx.AsyncClient, errand: DeliveryAttempt) -> None:
        try:
            outcome = await self._try(client, errand)
        finally:
            self._idle.put_nowait(client)
        self._judge(errand, outcome)

    def _write(self, errand: DeliveryAttempt) -> None:
        """Into the queue, which is done when it is there."""
        if not self._begin(errand):
            outcome = "lost"
        elif self._mischief.strikes("unwritable_queue"):
            outcome = "unwritable"
        else:
            # Which of the two VOD writes is not known (vod-protocol 3.1).
            encoded = self._config.quirks and SeededRandom(self._config.seed, "queue", errand.body.decode()).chance(0.5)
            self._mailbox.put(base64.b64encode(errand.body).decode() if encoded else errand.body.decode(), time.time())
            outcome = "delivered"
        self._judge(errand, outcome)

    def _judge(self, errand: DeliveryAttempt, outcome: str) -> None:
        if outcome in ("delivered", "lost"):
            self._finish(errand, outcome)
            return
        self._refused[outcome] += 1
        if errand.tries < self._config.callback_tries:
            self._plan(errand, time.time() + self._config.callback_pause)
            return
        log.warning("notification dropped: %d tries, the last one ended with %s", errand.tries, outcome)
        self._finish(errand, "dropped")

    async def _try(self, client: httpx.AsyncClient, errand: DeliveryAttempt) -> str:
        """`delivered`, `lost`, or what came in place of a 200: another status, `timeout` or `unreachable`."""
        config = self._config
        if not self._begin(errand):
            return "lost"
        headers = {"content-type": "application/json", "user-agent": USER_AGENT, "accept-encoding": "gzip,deflate"}
        if config.callback_key:
            timestamp = str(int(time.time()))
            headers["X-VOD-TIMESTAMP"] = timestamp
            headers["X-VOD-SIGNATURE"] = callback_signature(config.callback_url, timestamp, config.callback_key)
        try:
            async with asyncio.timeout(config.callback_timeout):
                answer = await client.post(config.callback_url, content=errand.body, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            return "timeout"
        except (httpx.HTTPError, httpx.InvalidURL):
            return "unreachable"
        return "delivered" if answer.status_code == 200 else str(answer.status_code)

    def _begin(self, errand: DeliveryAttempt) -> bool:
        """Count a try, and compose the event before the first; False where the event is to be lost."""
        if errand.tries == 0:
            # Composed once: the tries of one event carry the same body.
            errand.body = msgspec.json.encode(errand.script.body(errand.number))
            self._counts["events"] += 1
            if self._mischief.strikes("lost_notifications"):
                return False
        errand.tries += 1
        self._counts["attempts"] += 1
        return True

    def _finish(self, errand: DeliveryAttempt, ending: str) -> None:
        self._counts[ending] += 1
        self._pending -= 1
        errand.number += 1
        errand.tries = 0
        errand.body = b""
        if errand.number < len(errand.script):
            self._plan(errand, errand.script.due(errand.number))
