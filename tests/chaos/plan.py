"""Which fault strikes when: drawn from the seed and from nothing else."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass

ROLES = ("receiver-1", "receiver-2", "worker-1", "worker-2")

#: What the emulator answers in place of media, and how often it does so while it is in that mood.
API_FAULTS = {
    "reset": 0.7,
    "halfway": 0.7,
    "truncated": 0.7,
    "garbage": 0.7,
    "html": 0.7,
    "http_500": 0.7,
    "service_unavailable": 1.0,
    "throttle": 0.5,
    "slow": 0.5,
}

#: Seconds between two kills, and from the end of one outage to the next of the same kind; the mean of an exponential distribution.
KILLS, OUTAGES, REFUSALS = 1.0, 9.0, 6.0

#: Kills that are asked for with SIGTERM, so that stopping in order is under fire as well; those that may hit a role in its start.
_ASKED, _EARLY = 0.15, 0.25


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """At second `at`: `kind` (kill, stop, cut, freeze, or one of API_FAULTS) strikes `target` for `seconds`."""

    at: float
    kind: str
    #: A role, "database", "broker" or "api".
    target: str
    #: How long it lasts; for a role, how long it stays away before it is started again.
    seconds: float
    #: For API_FAULTS: the share of calls that it hits.
    share: float = 1.0
    #: For a role: it may be hit before it has begun to work.
    early: bool = False


def faults(seed: int, *, servers: bool) -> Iterator[Fault]:
    """All faults of one run in order, without end. `servers`: database and broker are behind proxies that can fail."""
    streams = [_kills(_chance(seed, "kills")), _refusals(_chance(seed, "api"))]
    if servers:
        streams += [_outages(_chance(seed, target), target) for target in ("database", "broker")]
    return heapq.merge(*streams)


def _chance(seed: int, stream: str) -> random.Random:
    # Each stream has its own, so that one more draw in one of them leaves the others as they were.
    return random.Random(f"{seed}:{stream}")


def _kills(chance: random.Random) -> Iterator[Fault]:
    at = 0.0
    while True:
        at += chance.expovariate(1 / KILLS)
        kind = "stop" if chance.random() < _ASKED else "kill"
        pause = chance.choice((0.0, 0.0, chance.uniform(0, 2)))
        yield Fault(at, kind, chance.choice(ROLES), pause, early=chance.random() < _EARLY)


def _outages(chance: random.Random, target: str) -> Iterator[Fault]:
    at = 0.0
    while True:
        at += chance.expovariate(1 / OUTAGES)
        fault = Fault(at, chance.choice(("cut", "freeze")), target, chance.uniform(1, 6))
        yield fault
        at += fault.seconds


def _refusals(chance: random.Random) -> Iterator[Fault]:
    at = 0.0
    while True:
        at += chance.expovariate(1 / REFUSALS)
        kind = chance.choice(list(API_FAULTS))
        fault = Fault(at, kind, "api", chance.uniform(1, 4), API_FAULTS[kind])
        yield fault
        at += fault.seconds
