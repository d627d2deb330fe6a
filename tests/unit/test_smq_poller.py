"""How long the collector waits before it asks the queue again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

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
    """One step of one collector, with `outcome` as what came of it; gives the pause."""
    database = SimpleNamespace(away=False, asked=0)

    class Nothing:
        def __enter__(self) -> Any:
            database.asked += 1
            if database.away:
                raise StoreUnavailableError("away")
            return SimpleNamespace(execute=lambda _: None)

        def __exit__(self, *_: object) -> None:
            pass

    here: Any = SimpleNamespace(store=SimpleNamespace(reading=Nothing), settings=SimpleNamespace(max_attempts=3))
    collecting = module.QueuePoller(here, "default", SimpleNamespace(name="vod-events"))

    def once(outcome: PollResult | Exception, *, away: bool = False) -> float:
        database.away = away

        def collect(*_: Any, **__: Any) -> PollResult:
            assert not away, "a message was received although the database is away"
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(module, "poll_queue", collect)
        return float(collecting.step())

    return once


def test_after_messages_it_asks_again_at_once(step: Callable[..., float]) -> None:
    assert step(PollResult(received=16, new=16)) == 0


def test_an_empty_answer_that_came_early_costs_a_second(step: Callable[..., float]) -> None:
    assert 0.4 < step(PollResult()) <= 1


@pytest.mark.parametrize(
    "error", [VodUnavailableError("gone"), VodUnreadableError("HTML"), StoreUnavailableError("away"), RuntimeError("ours")]
)
def test_failures_make_it_wait_longer_and_never_longer_than_half_a_minute(step: Callable[..., float], error: Exception) -> None:
    pauses = [step(error) for _ in range(12)]

    assert 0.4 < pauses[0] <= 1
    assert 15 <= min(pauses[8:]) <= max(pauses) <= 30
    assert step(PollResult(received=1)) == 0
    assert step(error) <= 1


@pytest.mark.parametrize("error", [VodRefusedError("no queue"), VodCredentialsError("wrong key")])
def test_what_somebody_has_to_change_is_tried_again_soon_and_then_each_minute(step: Callable[..., float], error: Exception) -> None:
    pauses = [step(error) for _ in range(6)]

    assert pauses == [5, 10, 20, 40, 60, 60]
    assert step(PollResult(received=1)) == 0
    assert step(error) == 5


@pytest.mark.parametrize(
    "error", [VodRefusedError("form", code="InvalidArgument"), VodCredentialsError("right"), VodUnavailableError("gone")]
)
def test_messages_that_cannot_be_deleted_do_not_hold_up_those_that_come(
    step: Callable[..., float], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, error: VodError
) -> None:
    pauses = [step(PollResult(received=1, undeleted=error)) for _ in range(12)]

    said = capsys.readouterr()
    assert 0.4 < min(pauses) <= max(pauses) <= 1
    assert (caplog.text + said.out + said.err).count("stored, but cannot be deleted") == 1
    assert error.code in caplog.text + said.out + said.err


def test_nothing_is_received_until_the_database_is_back(step: Callable[..., float]) -> None:
    step(StoreUnavailableError("away"))

    pauses = [step(PollResult(received=1), away=True) for _ in range(3)]

    assert min(pauses) > 0
    assert step(PollResult(received=1)) == 0
