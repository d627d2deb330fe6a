"""Whether notifications can be stored, from what happened to the last ones and from tries."""

from __future__ import annotations

from typing import Any

import pytest

from worker.core.errors import StoreUnavailableError
from worker.web import write_state
from worker.web.write_state import CHECK_INTERVAL, RETRY_INTERVAL, WriteState


class Disk:
    """What is written to. `state` tries it; `lines` are the logged phrases and their fields."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.tries = 0
        self.now = 1000.0
        self.lines: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(write_state, "log", self)
        self.state = WriteState(self.write, clock=lambda: self.now)

    def write(self) -> None:
        self.tries += 1
        if self.is_full:
            raise StoreUnavailableError("disk full")

    def record(self, phrase: str, **fields: Any) -> None:
        self.lines.append((phrase, fields))

    info = error = record

    def is_ready(self) -> bool:
        try:
            self.state.check()
        except StoreUnavailableError:
            return False
        return True


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_nothing_is_tried_while_notifications_are_stored(disk: Disk) -> None:
    disk.state.succeeded()
    disk.now += CHECK_INTERVAL / 2

    assert disk.is_ready()
    assert disk.tries == 0


def test_a_write_is_tried_if_no_notification_arrived_for_a_while(disk: Disk) -> None:
    disk.state.succeeded()
    disk.is_full = True
    disk.now += CHECK_INTERVAL

    assert not disk.is_ready()
    assert disk.state.error == "disk full"


def test_a_failed_commit_is_enough_to_be_not_ready(disk: Disk) -> None:
    disk.state.succeeded()
    disk.state.failed(StoreUnavailableError("disk full"))

    assert not disk.is_ready()
    assert disk.tries == 0


def test_a_try_ends_the_outage(disk: Disk) -> None:
    disk.state.failed(StoreUnavailableError("disk full"))
    disk.now += RETRY_INTERVAL

    assert disk.is_ready()
    assert [phrase for phrase, _ in disk.lines] == ["notifications cannot be stored", "notifications are stored again"]


def test_a_commit_ends_the_outage(disk: Disk) -> None:
    disk.state.failed(StoreUnavailableError("disk full"))
    disk.state.succeeded()

    assert disk.is_ready()
    assert disk.tries == 0


def test_many_checks_try_seldom(disk: Disk) -> None:
    disk.is_full = True
    disk.state.failed(StoreUnavailableError("disk full"))
    for _ in range(100):
        disk.now += RETRY_INTERVAL / 10
        disk.is_ready()

    assert disk.tries <= 10


def test_failures_are_logged_once_with_the_number_that_was_not_logged(disk: Disk) -> None:
    for _ in range(500):
        disk.state.failed(StoreUnavailableError("disk full"), count=3)
    disk.state.succeeded()

    (_, start), (_, end) = disk.lines
    assert (start["error"], start["count"], end["unlogged"]) == ("disk full", 3, 499)
