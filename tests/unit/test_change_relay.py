"""The change relay continues after errors, and logs them once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders import Log
from worker import runtime, settings
from worker.core.errors import BrokerMismatchError


@pytest.mark.parametrize("feed", ["on", "off"])
def test_the_relay_continues_if_old_changes_cannot_be_deleted(monkeypatch: pytest.MonkeyPatch, feed: str) -> None:
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={"VODSYNC_CHANGES": feed})))
    from worker.queue.services import change_relay

    tries: list[bool] = []

    def drop_old_changes(*_: Any, **__: Any) -> None:
        tries.append(True)
        raise ZeroDivisionError

    relay = change_relay.ChangeRelay(SimpleNamespace())
    monkeypatch.setattr(change_relay, "drop_old_changes", drop_old_changes)
    monkeypatch.setattr(change_relay, "publish_changes", lambda *_, **__: 0)
    monkeypatch.setattr(change_relay, "CLEANUP_INTERVAL", 0)

    for _ in range(3):
        relay.step()

    assert len(tries) == 3


def test_an_error_that_needs_a_change_at_the_broker_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={"VODSYNC_CHANGES": "on"})))
    from worker.queue.services import change_relay

    outcomes: list[Any] = [ConnectionError(), BrokerMismatchError("of another type"), BrokerMismatchError("of another type"), 3]

    def publish_changes(*_: Any, **__: Any) -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    log = Log()
    relay = change_relay.ChangeRelay(SimpleNamespace())
    monkeypatch.setattr(change_relay, "publish_changes", publish_changes)
    monkeypatch.setattr(change_relay, "log", log)

    counts = [relay._publish() for _ in range(4)]

    assert counts == [0, 0, 0, 3]
    assert log.phrases == [
        "broker does not take changes; they wait",
        "changes cannot be published; they wait",
        "changes published",
        "broker takes changes again",
    ]
