"""A worker process whose broker fails, a worker process that receives a signal, and beat without a broker."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import kombu
import pytest

from tests.fake_time import FakeTime
from tests.worker_fakes import RecordingLog
from worker import process_signals, runtime, settings
from worker.outage import Outage


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first import of the Celery application reads the settings of this process."""
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={})))


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Celery's flags that stop the process, not set."""
    from celery.worker import state

    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(state, "should_terminate", None)
    return state


# The connection to the broker


class StoppingTime(FakeTime):
    """Sets Celery's flag `stop` during the first sleep."""

    def __init__(self, state: Any, stop: str | None) -> None:
        super().__init__()
        self._state, self._stop = state, stop

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self._stop:
            setattr(self._state, self._stop, 0)


def make_consumer(monkeypatch: pytest.MonkeyPatch, fake_time: FakeTime) -> tuple[Any, RecordingLog]:
    from worker.queue.consumer import Consumer

    log = RecordingLog()
    monkeypatch.setattr("worker.queue.consumer.log", log)
    fake_time.install(monkeypatch, "worker.queue.consumer")
    # The constructor starts Celery's whole blueprint.
    consumer = Consumer.__new__(Consumer)
    consumer._outage, consumer._connected_at = Outage(), None
    consumer.connection = kombu.Connection("memory://")
    conf = SimpleNamespace(worker_cancel_long_running_tasks_on_connection_loss=True, worker_enable_prefetch_count_reduction=False)
    consumer.app = SimpleNamespace(conf=conf)
    return consumer, log


def test_a_worker_pauses_before_it_connects_again(monkeypatch: pytest.MonkeyPatch, state: Any) -> None:
    fake_time = StoppingTime(state, None)
    consumer, log = make_consumer(monkeypatch, fake_time)

    consumer.on_connection_error_before_connected(ConnectionRefusedError("closed port"))

    assert timedelta(seconds=2) <= fake_time.elapsed <= timedelta(seconds=2.2)
    phrase = "worker receives no wake-ups from the broker; the sweep finds the work"
    assert log.entries == [(phrase, {"error": "ConnectionRefusedError: closed port"})]


def test_a_worker_that_lost_its_connection_closes_it_and_pauses(monkeypatch: pytest.MonkeyPatch, state: Any) -> None:
    fake_time = StoppingTime(state, None)
    consumer, log = make_consumer(monkeypatch, fake_time)

    consumer.on_connection_error_after_connected(OSError("read only"))

    assert consumer.connection is None
    assert fake_time.elapsed >= timedelta(seconds=2)
    assert len(log.entries) == 1


@pytest.mark.parametrize("stop", ["should_stop", "should_terminate"])
def test_a_stop_ends_the_pause_at_once(monkeypatch: pytest.MonkeyPatch, state: Any, stop: str) -> None:
    # The value 0 is an exit code, not "no".
    fake_time = StoppingTime(state, stop)
    consumer, _ = make_consumer(monkeypatch, fake_time)

    consumer.on_connection_error_before_connected(ConnectionRefusedError())

    assert fake_time.elapsed <= timedelta(seconds=0.2)


# Signals


class Exited(BaseException):
    """Raised in place of the end of the process."""


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, state: Any) -> Any:
    """A worker with its signal handlers installed into `handlers`."""
    from worker.queue.worker_process import Worker

    def exit_at_once(code: int) -> None:
        raise Exited(code)

    made = Worker.__new__(Worker)
    made.handlers = {}
    monkeypatch.setattr("worker.process_signals.signal.signal", made.handlers.__setitem__)
    monkeypatch.setattr(os, "_exit", exit_at_once)
    made.install_platform_tweaks(made)
    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_in_order_and_counts_as_success(worker: Any, state: Any, number: int) -> None:
    worker.handlers[number](number, None)

    assert state.should_stop == 0
    assert state.should_stop is not False
    assert state.should_terminate is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_the_process_at_once(worker: Any, number: int, code: int) -> None:
    worker.handlers[signal.SIGTERM](signal.SIGTERM, None)

    with pytest.raises(Exited) as exited:
        worker.handlers[number](number, None)

    assert exited.value.args == (code,)


def test_hangup_stops_too_and_the_signals_for_other_purposes_do_nothing(worker: Any, state: Any) -> None:
    ignored = {number for number, handler in worker.handlers.items() if handler == signal.SIG_IGN}
    worker.handlers[signal.SIGHUP](signal.SIGHUP, None)

    assert ignored == {signal.SIGUSR1, signal.SIGUSR2}
    assert worker.handlers.keys() - ignored == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    assert state.should_stop == 0


def test_a_hangup_that_nohup_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {}
    monkeypatch.setattr("worker.process_signals.signal.getsignal", lambda _number: signal.SIG_IGN)
    monkeypatch.setattr("worker.process_signals.signal.signal", handlers.__setitem__)

    process_signals.on_stop(lambda *_: None)
    process_signals.stop_on_hangup()

    assert handlers.keys() == {signal.SIGTERM, signal.SIGINT}


# Beat


def make_scheduler(monkeypatch: pytest.MonkeyPatch, outcome: Exception | None) -> tuple[Any, RecordingLog]:
    from worker.queue.beat import Scheduler
    from worker.queue.celery_app import app

    class OfflineScheduler(Scheduler):
        """Records what it would send."""

        producer = None

        def __init__(self) -> None:
            self.sent: list[tuple[str, bool]] = []
            super().__init__(app=app, lazy=True)

        def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **_: Any) -> None:
            self.sent.append((entry.task, advance))
            if outcome is not None:
                raise outcome

    log = RecordingLog()
    monkeypatch.setattr("worker.queue.beat.log", log)
    scheduler = OfflineScheduler()
    long_ago = app.now() - timedelta(hours=1)
    due = scheduler.Entry(name="sweep", task="vodsync.sweep", schedule=timedelta(seconds=10), last_run_at=long_ago, app=app)
    scheduler.schedule = {"sweep": due}
    return scheduler, log


@pytest.mark.parametrize("outcome", [None, ConnectionRefusedError("closed port")], ids=["broker answers", "broker is away"])
def test_a_due_entry_is_sent_once_even_if_the_broker_is_away(monkeypatch: pytest.MonkeyPatch, outcome: Exception | None) -> None:
    scheduler, _ = make_scheduler(monkeypatch, outcome)

    first_pause = scheduler.tick()
    second_pause = scheduler.tick()

    # `tick` advances the entry itself.
    assert scheduler.sent == [("vodsync.sweep", False)]
    assert first_pause == 0
    assert 8 < second_pause <= 10


def test_a_broker_that_is_away_is_logged_with_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, log = make_scheduler(monkeypatch, ConnectionRefusedError("closed port"))

    scheduler.tick()

    assert log.entries == [
        (
            "beat cannot reach the broker; the workers' sweep finds the work",
            {"task": "vodsync.sweep", "error": "ConnectionRefusedError: closed port"},
        )
    ]


def test_a_broker_that_answers_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, log = make_scheduler(monkeypatch, None)

    scheduler.tick()

    assert log.entries == []
