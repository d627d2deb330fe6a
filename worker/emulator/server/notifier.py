"""Send notifications to the callback URL or write them to the queue, with the timeout and the attempts of VOD (vod-protocol 1.2).

The events of one asset are sent one after the other, so they arrive in order; assets do not wait for each other. A failed attempt
releases its connection before the pause, so that a receiver that does not answer does not delay the other assets.
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

import httpx
import msgspec

from worker.emulator.api.faults import FaultInjector
from worker.emulator.library.event_sequences import EventSequence
from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.seeded_random import SeededRandom
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.smq.smq_queue import SmqQueue

log = logging.getLogger(__name__)

#: VOD's own (vod-protocol 1.1).
USER_AGENT = "Apache-HttpClient/4.4.1 (Java/1.8.0_152)"


@dataclass(slots=True)
class Delivery:
    """The progress of one event sequence to the callback URL or to the queue."""

    events: EventSequence
    to_queue: bool
    #: The event that is sent next.
    number: int = 0
    #: Attempts for this event.
    attempts: int = 0
    #: The JSON of this event, composed for the first attempt.
    body: bytes = b""


def callback_signature(url: str, timestamp: str, key: str) -> str:
    """Return X-VOD-SIGNATURE (vod-protocol 1.3), which does not cover the body."""
    return hashlib.md5(f"{url}|{timestamp}|{key}".encode(), usedforsecurity=False).hexdigest()


class Notifier:
    """Delivers event sequences.

    With both a callback URL and a queue, every event is delivered and counted twice; with neither, nothing is sent or counted.
    """

    def __init__(self, config: EmulatorConfig, injector: FaultInjector, queue: SmqQueue) -> None:
        self._config = config
        self._injector = injector
        self._queue = queue
        #: When the next event of a delivery is due, a number that keeps the order of equal times, and the delivery.
        self._schedule: list[tuple[float, int, Delivery]] = []
        self._order = itertools.count()
        self._schedule_changed = asyncio.Event()
        # Last in, first out: the receiver is least likely to have closed the connection that was used most recently.
        self._idle_clients: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        self._posts: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._counts = Counter[str]()
        self._failures: Counter[str] = Counter()

    def schedule(self, events: EventSequence) -> None:
        """Send the events of a sequence when they are due."""
        for to_queue, destination in ((False, self._config.callback_url), (True, self._config.smq_queue)):
            if destination and len(events):
                self._pending += len(events)
                self._add_to_schedule(Delivery(events, to_queue), events.due_at(0))

    def as_dict(self) -> JsonObject:
        """Return the counters.

        `events` became due; each ends as `delivered`, `dropped` (after all attempts) or `lost` (by a fault). `pending` have not
        ended, including those that are not due yet.
        """
        names = ("events", "delivered", "dropped", "lost", "attempts")
        return {**{name: self._counts[name] for name in names}, "pending": self._pending, "refused_by_status": dict(self._failures)}

    async def run(self) -> None:
        """Deliver events until the task is cancelled."""
        if not self._config.callback_url and not self._config.smq_queue:
            return
        async with AsyncExitStack() as stack:
            for client in self._make_clients():
                self._idle_clients.put_nowait(await stack.enter_async_context(client))
            try:
                while True:
                    delivery = await self._next_due()
                    if delivery.to_queue:
                        self._write_to_queue(delivery)
                        continue
                    task = asyncio.create_task(self._post(await self._idle_clients.get(), delivery))
                    self._posts.add(task)
                    task.add_done_callback(self._posts.discard)
            finally:
                for task in self._posts:
                    task.cancel()
                await asyncio.gather(*self._posts, return_exceptions=True)

    def _make_clients(self) -> list[httpx.AsyncClient]:
        """Return one client for each connection. One client with a pool of connections has only half the throughput."""
        config = self._config
        one_connection = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        verify = httpx.create_ssl_context() if config.callback_url.startswith("https:") else False
        # VOD does not follow redirects. trust_env=False ignores the proxies of this machine, which VOD would not use either.
        return [
            httpx.AsyncClient(
                timeout=config.callback_timeout,
                limits=one_connection,
                follow_redirects=False,
                trust_env=False,
                verify=verify,
            )
            for _ in range(config.callback_connections)
        ]

    def _add_to_schedule(self, delivery: Delivery, due_at: float) -> None:
        heapq.heappush(self._schedule, (due_at, next(self._order), delivery))
        self._schedule_changed.set()

    async def _next_due(self) -> Delivery:
        """Wait until a delivery is due, and return it."""
        while True:
            self._schedule_changed.clear()
            wait_seconds = self._schedule[0][0] - time.time() if self._schedule else None
            if wait_seconds is not None and wait_seconds <= 0:
                return heapq.heappop(self._schedule)[2]
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._schedule_changed.wait()
            except TimeoutError:
                pass

    async def _post(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        try:
            outcome = await self._attempt(client, delivery)
        finally:
            self._idle_clients.put_nowait(client)
        self._handle_outcome(delivery, outcome)

    def _write_to_queue(self, delivery: Delivery) -> None:
        if not self._start_attempt(delivery):
            outcome = "lost"
        elif self._injector.triggered("unwritable_queue"):
            outcome = "unwritable"
        else:
            # VOD does not document whether the message is the JSON or its Base64 form (vod-protocol 3.1), so both occur.
            text = delivery.body.decode()
            is_encoded = self._config.quirks and SeededRandom(self._config.seed, "queue", text).chance(0.5)
            self._queue.send(base64.b64encode(delivery.body).decode() if is_encoded else text, time.time())
            outcome = "delivered"
        self._handle_outcome(delivery, outcome)

    def _handle_outcome(self, delivery: Delivery, outcome: str) -> None:
        """Go on with the next event, or with the next attempt for this one."""
        if outcome in ("delivered", "lost"):
            self._finish_event(delivery, outcome)
            return
        self._failures[outcome] += 1
        if delivery.attempts < self._config.callback_tries:
            self._add_to_schedule(delivery, time.time() + self._config.callback_pause)
            return
        log.warning("notification dropped: %d tries, the last one ended with %s", delivery.attempts, outcome)
        self._finish_event(delivery, "dropped")

    async def _attempt(self, client: httpx.AsyncClient, delivery: Delivery) -> str:
        """Return `delivered`, `lost`, or what came instead of a 200: another status, `timeout` or `unreachable`."""
        config = self._config
        if not self._start_attempt(delivery):
            return "lost"
        headers = {"content-type": "application/json", "user-agent": USER_AGENT, "accept-encoding": "gzip,deflate"}
        if config.callback_key:
            timestamp = str(int(time.time()))
            headers["X-VOD-TIMESTAMP"] = timestamp
            headers["X-VOD-SIGNATURE"] = callback_signature(config.callback_url, timestamp, config.callback_key)
        try:
            async with asyncio.timeout(config.callback_timeout):
                response = await client.post(config.callback_url, content=delivery.body, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            return "timeout"
        except (httpx.HTTPError, httpx.InvalidURL):
            return "unreachable"
        return "delivered" if response.status_code == 200 else str(response.status_code)

    def _start_attempt(self, delivery: Delivery) -> bool:
        """Count an attempt. Return False if a fault loses the event; this is decided before its first attempt."""
        if delivery.attempts == 0:
            # All attempts for one event carry the same body.
            delivery.body = msgspec.json.encode(delivery.events.body(delivery.number))
            self._counts["events"] += 1
            if self._injector.triggered("lost_notifications"):
                return False
        delivery.attempts += 1
        self._counts["attempts"] += 1
        return True

    def _finish_event(self, delivery: Delivery, outcome: str) -> None:
        self._counts[outcome] += 1
        self._pending -= 1
        delivery.number += 1
        delivery.attempts = 0
        delivery.body = b""
        if delivery.number < len(delivery.events):
            self._add_to_schedule(delivery, delivery.events.due_at(delivery.number))
