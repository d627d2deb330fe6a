"""What the announcer's thread makes of whatever goes wrong in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders import Log
from worker import runtime, settings
from worker.core.errors import BrokerMismatchError


@pytest.mark.parametrize("feed", ["on", "off"])
def test_old_changes_that_cannot_be_dropped_do_not_end_it(monkeypatch: pytest.MonkeyPatch, feed: str) -> None:
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={"VODSYNC_CHANGES": feed})))
    from worker.queue.services import change_relay

    tries: list[bool] = []

    def drop_old(*_: Any, **__: Any) -> None:
        tries.append(True)
        raise ZeroDivisionError

    made = change_relay.ChangeRelay(SimpleNamespace())
    monkeypatch.setattr(change_relay, "drop_old_changes", drop_old)
    monkeypatch.setattr(change_relay, "publish_changes", lambda *_, **__: 0)
    monkeypatch.setattr(change_relay, "CLEANUP_INTERVAL", 0)

    for _ in range(3):
        made.step()

    assert len(tries) == 3


def test_what_somebody_has_to_change_at_the_broker_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(settings.load(environ={"VODSYNC_CHANGES": "on"})))
    from worker.queue.services import change_relay

    outcomes: list[Any] = [ConnectionError(), BrokerMismatchError("of another type"), BrokerMismatchError("of another type"), 3]

    def announce(*_: Any, **__: Any) -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    log = Log()
    made = change_relay.ChangeRelay(SimpleNamespace())
    monkeypatch.setattr(change_relay, "publish_changes", announce)
    monkeypatch.setattr(change_relay, "log", log)

    sent = [made._publish() for _ in range(4)]

    assert sent == [0, 0, 0, 3]
    assert log.phrases == [
        "broker does not take changes; they wait",
        "changes cannot be published; they wait",
        "changes published",
        "broker takes changes again",
    ]
