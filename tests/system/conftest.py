"""Fixtures of the system tests: an installation on each pair of database and broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.installation import PAIRS, Installation, installed


@pytest.fixture(scope="module", params=list(PAIRS))
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Emulator, receiver and two workers, one of them with the clock, on one of the three pairs."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    with installed(PAIRS[request.param], folder) as ready:
        ready.start_emulator()
        ready.start("receiver", "serve")
        ready.start("worker-1", "work", "--beat")
        ready.start("worker-2", "work")
        ready.wait_until_ready()
        yield ready
