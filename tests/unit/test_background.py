"""Threads that call a function until the process stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.builders import Log
from worker import background
from worker.background import BackgroundLoop, join_all


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(background, "log", log)
    return log


def test_an_exception_does_not_end_the_thread_and_is_logged_once_while_it_repeats(log: Log) -> None:
    calls: list[int] = []

    def step() -> float:
        calls.append(1)
        raise ZeroDivisionError

    loop = BackgroundLoop("test", step, failure="test failed", retry_delay=0.001)
    loop.start()
    wait_until(lambda: len(calls) > 3)
    loop.stop()
    loop.join(10)

    assert log.phrases == ["test failed"]


def test_an_exception_after_a_success_is_logged_again(log: Log) -> None:
    outcomes = [1, 0, 1]

    def step() -> float:
        if outcomes and outcomes.pop():
            raise ZeroDivisionError
        return 0.001 if outcomes else 60.0

    loop = BackgroundLoop("test", step, failure="test failed", retry_delay=0.001)
    loop.start()
    wait_until(lambda: not outcomes)
    loop.stop()
    loop.join(10)

    assert log.phrases == ["test failed"] * 2


def test_wake_ends_the_pause() -> None:
    calls: list[int] = []

    def step() -> float:
        calls.append(1)
        return 3600.0

    loop = BackgroundLoop("test", step, failure="failed")
    loop.start()
    wait_until(lambda: len(calls) == 1)
    loop.wake()
    wait_until(lambda: len(calls) == 2)
    loop.stop()
    loop.join(10)

    assert len(calls) == 2


def test_wake_during_a_call_leads_to_one_more_call() -> None:
    calls: list[int] = []

    def step() -> float:
        calls.append(1)
        if len(calls) == 1:
            loop.wake()
        return 3600.0

    loop = BackgroundLoop("test", step, failure="failed")
    loop.start()
    wait_until(lambda: len(calls) == 2)
    loop.stop()
    loop.join(10)

    assert len(calls) == 2


def test_stop_ends_a_pause_and_interrupts_a_call_and_finish_runs_last_on_the_thread() -> None:
    events: list[str] = []
    interrupted = threading.Event()

    def step() -> float:
        events.append("step")
        interrupted.wait(10)
        return 3600.0

    def finish() -> None:
        events.append(f"finish on {threading.current_thread().name}")

    loop = BackgroundLoop("test", step, failure="failed", interrupt=interrupted.set, finish=finish)
    loop.start()
    wait_until(lambda: events == ["step"])
    loop.stop()
    loop.join(10)

    assert events == ["step", "finish on test"]


def test_a_loop_that_is_stopped_before_its_first_call_only_finishes() -> None:
    events: list[str] = []

    def step() -> float:
        events.append("step")
        return 0.0

    loop = BackgroundLoop("test", step, failure="failed", initial_delay=3600, finish=lambda: events.append("finish"))
    loop.start()
    loop.stop()
    loop.join(10)

    assert events == ["finish"]


def test_joining_waits_no_longer_than_the_time_for_all() -> None:
    release = threading.Event()

    def step() -> float:
        release.wait(10)
        return 0.0

    loops = [BackgroundLoop(f"test {number}", step, failure="failed") for number in range(4)]
    for loop in loops:
        loop.start()
        loop.stop()

    started_at = time.monotonic()
    join_all(loops, within=0.2)
    waited = time.monotonic() - started_at
    release.set()
    join_all(loops, within=10)

    assert 0.2 <= waited < 0.7


def test_a_loop_that_never_started_can_be_stopped_and_joined() -> None:
    loop = BackgroundLoop("test", lambda: 0.0, failure="failed")

    loop.stop()
    loop.join(10)

    assert not loop.is_alive
