"""Stand-ins for what surrounds the threads and tasks of a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import pytest
from sqlalchemy import Connection

from worker import runtime, settings
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.sync.source_context import SourceContext

T = TypeVar("T")


class RecordingLog:
    """A logger that remembers phrases and fields."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def note(self, phrase: str, **fields: Any) -> None:
        self.entries.append((phrase, fields))

    info = warning = error = exception = note

    @property
    def phrases(self) -> list[str]:
        return [phrase for phrase, _ in self.entries]


class StopAfter(threading.Event):
    """An event that is set after `rounds` waits. No wait takes time; `pauses` holds the seconds that each would have taken."""

    def __init__(self, rounds: int, *, passes: Callable[[float], object] = lambda _: None) -> None:
        super().__init__()
        self._rounds = rounds
        self._passes = passes
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            if len(self.pauses) == self._rounds:
                self.set()
            else:
                self.pauses.append(timeout or 0)
                self._passes(timeout or 0)
        return self.is_set()


class FakeWakeupSender:
    """Counts wake-ups and sends none."""

    def __init__(self) -> None:
        self.sent = 0

    def send(self) -> None:
        self.sent += 1


class AwayStore(Store):
    """A database that does not answer."""

    def __init__(self) -> None:
        """It has no engine."""

    def transact(self, work: Callable[[Connection], T]) -> NoReturn:
        raise StoreUnavailableError("away")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        raise StoreUnavailableError("away")
        yield


def make_runtime(
    monkeypatch: pytest.MonkeyPatch, store: Store, *contexts: SourceContext, environ: dict[str, str] | None = None
) -> runtime.Runtime:
    """This process's runtime, with `store` and `contexts` in place of those that settings describe."""
    made = runtime.Runtime(settings.load(environ=environ or {}))
    vars(made).update(store=store, source_contexts={context.source: context for context in contexts}, kinds={}, unserved={})
    monkeypatch.setattr(runtime, "_current", made)
    return made
