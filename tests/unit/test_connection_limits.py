"""Which connection is closed if there are too many, or if one takes too long."""

from __future__ import annotations

import asyncio
import resource

import pytest

from worker.web import connections
from worker.web.connections import BODY, IDLE, RESPONSE, Connections, Phase, connection_limit

VOD = "203.0.113.1"
SCANNER = "198.51.100.1"


class Client:
    """A connection that is only registered. `ended` is how it was ended."""

    def __init__(self, registry: Connections, address: str, *, phase: Phase = IDLE, is_trusted: bool = False) -> None:
        self.phase = phase
        self.since = 0.0
        self.address = address
        self.is_trusted = is_trusted
        self.ended = ""
        self._registry = registry
        registry.add(self)
        if not phase.is_evictable:
            registry.stop_waiting(self)

    def expire(self) -> None:
        self.ended = "expired"
        self._registry.remove(self)

    def abort(self) -> None:
        self.ended = "aborted"


def closed_of(limit: int, *clients: tuple[str, Phase, bool]) -> list[int]:
    """Return which of these clients, by number, are closed if they connect one after another."""

    async def scenario() -> list[int]:
        registry = Connections(limit)
        connected = [Client(registry, address, phase=phase, is_trusted=trusted) for address, phase, trusted in clients]
        assert len(registry) <= limit
        return [number for number, client in enumerate(connected) if client.ended]

    return asyncio.run(scenario())


def test_up_to_the_limit_no_connection_is_closed() -> None:
    assert closed_of(2, (VOD, IDLE, False), (SCANNER, IDLE, False)) == []


def test_the_connection_that_has_waited_longest_makes_room() -> None:
    assert closed_of(2, *[(VOD, IDLE, False)] * 4) == [0, 1]


def test_the_address_with_most_connections_loses_one() -> None:
    assert closed_of(3, (VOD, IDLE, False), (SCANNER, BODY, False), (SCANNER, IDLE, False), (VOD, IDLE, False)) == [1]


def test_a_connection_that_delivered_a_notification_is_closed_last() -> None:
    assert closed_of(2, (VOD, IDLE, True), (VOD, IDLE, False), (VOD, IDLE, True), (VOD, IDLE, False)) == [0, 1]


def test_a_connection_whose_request_is_being_answered_is_never_closed() -> None:
    assert closed_of(1, (VOD, RESPONSE, False), (SCANNER, IDLE, False), (SCANNER, IDLE, False)) == [1, 2]


def test_connections_end_when_their_phase_lasts_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SWEEP_INTERVAL", 0)

    async def scenario() -> list[str]:
        registry = Connections(10)
        slow, quick = (Client(registry, VOD, phase=BODY) for _ in range(2))
        now = asyncio.get_running_loop().time()
        slow.since, quick.since = now - BODY.timeout - 1, now + 3600
        while not slow.ended:
            await asyncio.sleep(0)
        return [slow.ended, quick.ended]

    assert asyncio.run(scenario()) == ["expired", ""]


@pytest.mark.parametrize(
    ("descriptors", "limit"), [(64, 32), (256, 156), (1024, 924), (1_000_000, 2000), (resource.RLIM_INFINITY, 2000)]
)
def test_the_limit_leaves_descriptors_for_everything_else(monkeypatch: pytest.MonkeyPatch, descriptors: int, limit: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))

    assert connection_limit() == limit


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 4096, [4096]),
        (1024, 1_000_000, [65_536]),
        (1024, resource.RLIM_INFINITY, [65_536]),
        (4096, 4096, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_the_soft_limit_of_descriptors_is_raised(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: list[int]) -> None:
    limits: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.append(wanted[0]))

    connections.raise_descriptor_limit()

    assert limits == raised
