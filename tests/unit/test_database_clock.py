"""The database's time, measured now and then against the monotonic clock, and who may read the machine's clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event

import worker
from tests.fake_time import FakeTime
from worker.store.database_clock import MEASURE_INTERVAL, DatabaseClock

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

#: The modules that may read the machine's clock, and what they use it for.
READERS = {
    "runtime.py": "machine_time",
    "store/database_clock.py": "the distance between the two clocks",
    "embedded_broker.py": "file names in the order of their creation",
    "queue/reliable_filesystem.py": "the age of a file",
    "cli/notify.py": "signs like VOD",
    "cli/checks/sources.py": "compares the machine's clock with VOD's",
    "web/application.py": "the age of a signature",
}


class Harness:
    """A clock, and a database whose time is that of a FakeTime."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = FakeTime().install(monkeypatch, "worker.store.database_clock")
        self.engine = create_engine("sqlite://")
        self.clock = DatabaseClock()
        self.measurements = 0
        #: How many seconds after reading its clock the database answers.
        self.delay = 0.0
        event.listen(self.engine, "before_cursor_execute", self._count)
        event.listen(self.engine, "after_cursor_execute", lambda *_: self.time.sleep(self.delay))

    def measure(self) -> None:
        with self.engine.connect() as connection:
            self.clock.measure_if_due(connection)

    def _count(self, *_: Any) -> None:
        self.measurements += 1


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    made = Harness(monkeypatch)
    yield made
    made.engine.dispose()


def test_before_the_first_measurement_the_time_is_that_of_the_machine(harness: Harness) -> None:
    harness.time.machine_ahead = 2 * MINUTE

    assert harness.clock.now() == harness.time.database_time + 2 * MINUTE
    assert harness.clock.machine_ahead == timedelta(0)


@pytest.mark.parametrize("ahead", [2 * MINUTE, -2 * MINUTE])
def test_the_time_is_that_of_the_database_whatever_the_machine_says(harness: Harness, ahead: timedelta) -> None:
    harness.time.machine_ahead = ahead

    harness.measure()
    harness.time.sleep(3600)

    assert harness.clock.now() == harness.time.database_time
    assert harness.clock.machine_ahead == ahead


def test_the_database_is_asked_once_in_an_interval(harness: Harness) -> None:
    for _ in range(20):
        harness.measure()
        harness.time.sleep(MEASURE_INTERVAL / 10)

    assert harness.measurements == 2


def test_a_machine_clock_that_is_set_is_measured_at_once(harness: Harness) -> None:
    harness.measure()

    harness.time.machine_ahead = harness.time.database_ahead = 2 * MINUTE
    harness.measure()

    assert harness.clock.now() == harness.time.database_time
    assert harness.clock.machine_ahead == timedelta(0)


def test_a_database_clock_that_is_set_is_followed_with_the_next_measurement(harness: Harness) -> None:
    harness.measure()

    harness.time.database_ahead = -2 * MINUTE
    harness.time.sleep(MEASURE_INTERVAL)
    harness.measure()

    assert harness.clock.now() == harness.time.database_time
    assert harness.clock.machine_ahead == 2 * MINUTE


def test_a_slow_answer_that_agrees_with_the_last_measurement_changes_nothing(harness: Harness) -> None:
    harness.measure()

    harness.time.sleep(MEASURE_INTERVAL)
    harness.delay = 5.0
    harness.measure()

    assert harness.clock.now() == harness.time.database_time


def test_a_slow_first_answer_is_corrected_by_a_quick_one(harness: Harness) -> None:
    harness.delay = 5.0
    harness.measure()
    error = harness.clock.now() - harness.time.database_time

    harness.delay = 0.0
    harness.time.sleep(MEASURE_INTERVAL)
    harness.measure()

    assert abs(error) == 2.5 * SECOND
    assert harness.clock.now() == harness.time.database_time


def test_only_known_modules_read_the_clock_of_the_machine() -> None:
    root = Path(worker.__file__).parent
    readers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if path.relative_to(root).parts[0] != "emulator" and _reads_machine_clock(ast.parse(path.read_text()))
    }

    assert readers == READERS.keys()


def _reads_machine_clock(tree: ast.AST) -> bool:
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    names = {(node.value.id, node.attr) for node in attributes if isinstance(node.value, ast.Name)}
    return bool(
        names
        & {
            ("time", "time"),
            ("time", "time_ns"),
            ("datetime", "now"),
            ("datetime", "utcnow"),
            ("date", "today"),
            ("runtime", "machine_time"),
        }
    )
