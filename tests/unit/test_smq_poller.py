"""How long the poller waits before it reads the queue again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders import NOON
from worker import runtime, settings
from worker.core.errors import (
    StoreUnavailableError,
    VodCredentialsError,
    VodError,
    VodRefusedError,
    VodUnavailableError,
    VodUnreadableError,
)
from worker.sync.poll_smq import PollResult


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={})))
    from worker.queue.services import smq_poller

    monkeypatch.setattr(smq_poller, "wakeup_sender", lambda: SimpleNamespace(send=lambda: None))
    return smq_poller


@pytest.fixture
def step(module: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    """Return a function that makes one step of a poller. `outcome` is the result of the poll. It returns the pause."""
    database = SimpleNamespace(is_away=False)

    class Reading:
        def __enter__(self) -> Any:
            if database.is_away:
                raise StoreUnavailableError("away")
            return SimpleNamespace(execute=lambda _: None)

        def __exit__(self, *_: object) -> None:
            pass

    store = SimpleNamespace(reading=Reading, now=lambda: NOON)
    current: Any = SimpleNamespace(store=store, refused=None, settings=SimpleNamespace(max_attempts=3))
    poller = module.QueuePoller(current, "default", SimpleNamespace(name="vod-events"))

    def make_step(outcome: PollResult | Exception, *, away: bool = False) -> float:
        database.is_away = away

        def poll_queue(*_: Any, **__: Any) -> PollResult:
            assert not away, "a message was received although the database is away"
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(module, "poll_queue", poll_queue)
        return float(poller.step())

    return make_step


def test_the_queue_is_read_again_at_once_after_messages(step: Callable[..., float]) -> None:
    assert step(PollResult(received=16, new=16)) == 0


def test_an_empty_answer_that_came_early_is_followed_by_a_pause(step: Callable[..., float]) -> None:
    assert 0.4 < step(PollResult()) <= 1


@pytest.mark.parametrize(
    "error", [VodUnavailableError("gone"), VodUnreadableError("HTML"), StoreUnavailableError("away"), RuntimeError("ours")]
)
def test_pauses_after_failures_grow_to_at_most_half_a_minute(step: Callable[..., float], error: Exception) -> None:
    pauses = [step(error) for _ in range(12)]

    assert 0.4 < pauses[0] <= 1
    assert 15 <= min(pauses[8:]) <= max(pauses) <= 30
    assert step(PollResult(received=1)) == 0
    assert step(error) <= 1


@pytest.mark.parametrize("error", [VodRefusedError("no queue"), VodCredentialsError("wrong key")])
def test_an_error_that_needs_a_person_is_retried_soon_and_then_each_minute(step: Callable[..., float], error: Exception) -> None:
    pauses = [step(error) for _ in range(6)]

    assert pauses == [5, 10, 20, 40, 60, 60]
    assert step(PollResult(received=1)) == 0
    assert step(error) == 5


@pytest.mark.parametrize(
    "error", [VodRefusedError("form", code="InvalidArgument"), VodCredentialsError("right"), VodUnavailableError("gone")]
)
def test_messages_that_cannot_be_deleted_do_not_delay_later_ones(
    step: Callable[..., float], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, error: VodError
) -> None:
    pauses = [step(PollResult(received=1, undeleted=error)) for _ in range(12)]

    captured = capsys.readouterr()
    logged = caplog.text + captured.out + captured.err
    assert 0.4 < min(pauses) <= max(pauses) <= 1
    assert logged.count("stored, but cannot be deleted") == 1
    assert error.code in logged


def test_nothing_is_received_until_the_database_is_back(step: Callable[..., float]) -> None:
    step(StoreUnavailableError("away"))

    pauses = [step(PollResult(received=1), away=True) for _ in range(3)]

    assert min(pauses) > 0
    assert step(PollResult(received=1)) == 0
