"""Limit the open connections of a receiver process, and decide which one is closed to make room for another."""

from __future__ import annotations

import asyncio
import math
import resource
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from worker import logs
from worker.outage import Outage

log = logs.get(__name__)

#: More notifications than this do not fit into the buffer of the group commit either.
MAX_CONNECTIONS = 2_000
MAX_DESCRIPTORS = 65_536
RESERVED_DESCRIPTORS = 100  # for the database, the broker, the spool and files

SWEEP_INTERVAL = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Phase:
    """What a connection waits for. In the phases with `is_evictable` it waits for its client."""

    name: str
    timeout: float  # seconds
    is_evictable: bool = True


#: No request has begun.
IDLE = Phase("idle", 30)
#: A part of a request's head has arrived.
HEAD = Phase("head", 5)
#: The body is not complete. The receiver answers 408 earlier; this limits requests that it refused without reading their body.
BODY = Phase("body", 10)
#: The request is complete, and its response is not.
RESPONSE = Phase("response", 60, is_evictable=False)


class Connection(Protocol):
    """One open connection. `since` is when its phase began, by the clock of the event loop."""

    phase: Phase
    since: float
    address: str
    #: It has delivered a notification that was accepted.
    is_trusted: bool

    def expire(self) -> None:
        """End the connection because its phase has lasted too long."""

    def abort(self) -> None:
        """Close the connection at once."""


class Connections:
    """The connections of one process, at most `limit` of them.

    Above the limit, the connection that has waited longest for its client is closed. Connections that have delivered a
    notification come last, and among the others those of the address with most of them come first. So a sender with many idle or
    half-sent requests takes the place of its own connections only.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: set[Connection] = set()
        #: Connections that wait for their client, by address, in the order in which they began to wait.
        self._waiting: dict[str, dict[Connection, None]] = {}
        self._waiting_trusted: dict[Connection, None] = {}
        self._closed = Outage()
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Register a new connection. If there is no place for it, close another one, or this one if none waits for its client."""
        if len(self._open) >= self.limit:
            closed = self._longest_waiting() or connection
            self.report("limit", closed.address)
            self.remove(closed)
            closed.abort()
            if closed is connection:
                return
        self._open.add(connection)
        self.wait(connection)
        if self._sweeping is None:
            self._sweep_later()

    def remove(self, connection: Connection) -> None:
        self._open.discard(connection)
        self.stop_waiting(connection)

    def wait(self, connection: Connection) -> None:
        """Record that the connection now waits for its client."""
        if connection.is_trusted:
            self._waiting_trusted[connection] = None
        else:
            self._waiting.setdefault(connection.address, {})[connection] = None

    def stop_waiting(self, connection: Connection) -> None:
        self._waiting_trusted.pop(connection, None)
        group = self._waiting.get(connection.address)
        if group is not None:
            group.pop(connection, None)
            if not group:
                del self._waiting[connection.address]

    def report(self, reason: str, address: str) -> None:
        """Log that a connection is closed, once a minute for each reason: any client can cause it."""
        if self._closed.failed(reason, kind=reason):
            log.warning("connections are closed", reason=reason, address=address, open=len(self._open), limit=self.limit)

    def _longest_waiting(self) -> Connection | None:
        group = max(self._waiting.values(), key=len, default=self._waiting_trusted)
        return next(iter(group), None)

    def _sweep_later(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_INTERVAL, self._sweep)

    def _sweep(self) -> None:
        """End the connections whose phase has lasted too long. One timer for all costs less than one for each request."""
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            if now - connection.since > connection.phase.timeout:
                connection.expire()
        if self._open:
            self._sweep_later()


def raise_descriptor_limit() -> None:
    """Raise the limit of open files of this process, as far as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS refuses some values below the hard limit.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connection_limit() -> int:
    """Return how many connections this process may have, so that descriptors remain for everything else."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    descriptors = math.inf if soft == resource.RLIM_INFINITY else soft
    return int(min(MAX_CONNECTIONS, descriptors - min(RESERVED_DESCRIPTORS, descriptors // 2)))
