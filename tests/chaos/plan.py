"""Plan the faults of a run. The plan depends on the seed alone."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass

ROLES = ("receiver-1", "receiver-2", "worker-1", "worker-2")

#: Faults of the emulator's API, and the share of calls that each affects while it lasts.
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

#: Mean seconds of an exponential distribution.
KILL_INTERVAL = 1.0  # between two kills
OUTAGE_INTERVAL = 9.0  # from the end of an outage to the next of the same server
API_FAULT_INTERVAL = 6.0  # from the end of an API fault to the next

_STOP_SHARE = 0.15  # kills that are SIGTERM instead of SIGKILL, to test the clean stop as well
_EARLY_SHARE = 0.25  # kills that may affect a role during its start


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """At second `at` the fault `kind` (kill, stop, cut, freeze, or one of API_FAULTS) affects `target` for `seconds`."""

    at: float
    kind: str
    #: A role, "database", "broker" or "api".
    target: str
    #: Duration. For a role: the pause before it is started again.
    seconds: float
    #: For API_FAULTS: the share of calls that it affects.
    share: float = 1.0
    #: For a role: it may be killed before it has started to work.
    early: bool = False


def faults(seed: int, *, servers: bool) -> Iterator[Fault]:
    """Generate all faults of one run in order, without end. `servers`: database and broker are behind proxies."""
    streams = [_kills(_random(seed, "kills")), _api_faults(_random(seed, "api"))]
    if servers:
        streams += [_outages(_random(seed, target), target) for target in ("database", "broker")]
    return heapq.merge(*streams)


def _random(seed: int, stream: str) -> random.Random:
    # Each stream has its own generator, so that a change of one stream does not change the others.
    return random.Random(f"{seed}:{stream}")


def _kills(generator: random.Random) -> Iterator[Fault]:
    at = 0.0
    while True:
        at += generator.expovariate(1 / KILL_INTERVAL)
        kind = "stop" if generator.random() < _STOP_SHARE else "kill"
        pause = generator.choice((0.0, 0.0, generator.uniform(0, 2)))
        yield Fault(at, kind, generator.choice(ROLES), pause, early=generator.random() < _EARLY_SHARE)


def _outages(generator: random.Random, target: str) -> Iterator[Fault]:
    at = 0.0
    while True:
        at += generator.expovariate(1 / OUTAGE_INTERVAL)
        fault = Fault(at, generator.choice(("cut", "freeze")), target, generator.uniform(1, 6))
        yield fault
        at += fault.seconds


def _api_faults(generator: random.Random) -> Iterator[Fault]:
    at = 0.0
    while True:
        at += generator.expovariate(1 / API_FAULT_INTERVAL)
        kind = generator.choice(list(API_FAULTS))
        fault = Fault(at, kind, "api", generator.uniform(1, 4), API_FAULTS[kind])
        yield fault
        at += fault.seconds
