"""Fixtures of the system tests: an installation on each pair of database and broker."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from tests.system.callbacks import OLD_KEY, SOURCES
from tests.system.fault_harness import FaultHarness, fault_harness
from tests.system.installation import CALLBACK_KEY, PAIRS, Installation, installed
from tests.system.reprocess_queue import Library, Queues


@pytest.fixture(scope="module", params=list(PAIRS))
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Emulator, receiver and two workers, one of them with beat, on each pair of database and broker."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    with installed(PAIRS[request.param], folder) as running:
        running.start_emulator()
        running.start("receiver", "serve")
        running.start("worker-1", "work", "--beat")
        running.start("worker-2", "work")
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module", params=["sqlite-embedded", "postgresql-rabbitmq"])
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A receiver without workers, with three sources, of which `default` has two keys."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    (folder / "vodsync.toml").write_text(SOURCES)
    with installed(PAIRS[request.param], folder, VODSYNC_CALLBACK_KEYS=f"{CALLBACK_KEY}, {OLD_KEY}") as running:
        running.start("receiver", "serve")
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module", params=list(PAIRS))
def shared_harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultHarness]:
    with fault_harness(request.param, tmp_path_factory.mktemp(request.param)) as harness:
        yield harness


@pytest.fixture
def harness(shared_harness: FaultHarness) -> Iterator[FaultHarness]:
    """The harness of the module, cleared after each test."""
    yield shared_harness
    shared_harness.clear()


@pytest.fixture
def queues(harness: FaultHarness) -> Queues:
    """The queues of the harness as another program uses them."""
    return Queues(harness.installation)


@pytest.fixture
def library(harness: FaultHarness) -> Library:
    """A function that returns ids of assets that were not requested yet."""
    return lambda count: [harness.new_notification()["VideoId"] for _ in range(count)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run each cell of the fault matrix on one pair, which differs from cell to cell. `make matrix` runs all of them."""
    if os.environ.get("VODSYNC_TEST_WHOLE_MATRIX"):
        return
    cells: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.path.name == "test_fault_matrix.py":
            name = item.name
            for pair in PAIRS:
                name = name.replace(pair, "")
            cells[name].append(item)
    chosen = {variants[crc32(name.encode()) % len(variants)] for name, variants in cells.items()}
    deselected = {item for variants in cells.values() for item in variants} - chosen
    config.hook.pytest_deselected(items=list(deselected))
    items[:] = [item for item in items if item not in deselected]
