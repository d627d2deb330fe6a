"""Wake-ups that are sent from a background thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders import Log
from worker import runtime, settings


class FakeApp:
    """A Celery application whose broker has `waiting` wake-ups, or fails with `error`."""

    def __init__(self) -> None:
        self.waiting = 0
        self.error: Exception | None = None
        self.tries = 0
        self.sent: list[str] = []
        self.options: dict[str, Any] = {}
        queue = SimpleNamespace(queue_declare=lambda: SimpleNamespace(message_count=self.waiting))
        self.conf = SimpleNamespace(task_queues=[SimpleNamespace(bind=lambda _channel: queue)])
        self.pool = SimpleNamespace(acquire=self._acquire)

    @contextmanager
    def _acquire(self, **_: Any) -> Iterator[Any]:
        self.tries += 1
        if self.error:
            raise self.error
        yield SimpleNamespace(default_channel=None)

    def send_task(self, name: str, **options: Any) -> None:
        self.sent.append(name)
        self.options = options


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApp:
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={})))
    from worker.queue import wakeups

    app = FakeApp()
    monkeypatch.setattr(wakeups, "app", app)
    monkeypatch.setattr(wakeups, "PROBE_INTERVAL", 0.05)
    return app


@pytest.fixture
def log(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> Log:
    from worker.queue import wakeups

    log = Log()
    monkeypatch.setattr(wakeups, "log", log)
    return log


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_wake_up_that_is_requested_right_before_the_end_is_sent(app: FakeApp) -> None:
    from worker.queue.wakeups import WakeupSender

    for _ in range(20):
        sender = WakeupSender()
        sender.send()
        sender.close()

    assert app.sent == ["vodsync.sync_batch"] * 20


def test_a_wake_up_has_no_end_that_a_worker_would_compare_with_its_own_clock(app: FakeApp) -> None:
    from worker.queue.wakeups import WakeupSender

    sender = WakeupSender()
    sender.send()
    sender.close()

    assert "expires" not in app.options
    assert app.options["expiration"] == 60


def test_no_wake_up_is_sent_while_enough_are_waiting(app: FakeApp) -> None:
    from worker.queue.brokers import MAX_WAKEUPS
    from worker.queue.wakeups import WakeupSender

    app.waiting = MAX_WAKEUPS
    sender = WakeupSender()
    sender.send()
    sender.close()

    assert (app.tries > 0, app.sent) == (True, [])


def test_a_probe_finds_an_outage_that_only_a_sent_wake_up_ends(app: FakeApp, log: Log) -> None:
    from worker.queue.wakeups import WakeupSender

    app.error = ConnectionError("refused")
    sender = WakeupSender()
    wait_until(lambda: app.tries >= 3)
    error = sender.error
    app.error = None
    wait_until(lambda: sender.error is None)
    sent = list(app.sent)
    sender.close()

    assert error == "ConnectionError: refused"
    assert sent == ["vodsync.sync_batch"]
    assert log.phrases == ["broker does not take wake-ups; the sweep finds the work", "broker takes wake-ups again"]
