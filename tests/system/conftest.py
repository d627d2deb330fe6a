"""Fixtures of the system tests: an installation on each pair of database and broker."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from tests.system.fault_harness import FaultHarness, fault_harness
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


@pytest.fixture(scope="module", params=list(PAIRS))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultHarness]:
    with fault_harness(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def house(shared: FaultHarness) -> Iterator[FaultHarness]:
    """Any of the three pairs."""
    yield shared
    shared.clear()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the fault matrix each cell once, on a pair that changes from cell to cell; `make matrix` takes every pair."""
    if os.environ.get("VODSYNC_TEST_WHOLE_MATRIX"):
        return
    cells = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.path.name == "test_fault_matrix.py":
            name = item.name
            for pair in PAIRS:
                name = name.replace(pair, "")
            cells[name].append(item)
    chosen = {same[crc32(name.encode()) % len(same)] for name, same in cells.items()}
    left = {item for same in cells.values() for item in same} - chosen
    config.hook.pytest_deselected(items=list(left))
    items[:] = [item for item in items if item not in left]
