"""Fakes for tests of the services and tasks of a worker: log, wake-ups, database and runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import pytest
from sqlalchemy import Connection

from worker import runtime, settings
from worker.core.errors import StoreUnavailableError
from worker.store import Store
from worker.store.database_clock import DatabaseClock
from worker.sync.jobs.step import Kinds
from worker.sync.source_context import SourceContext

T = TypeVar("T")


class RecordingLog:
    """A logger that records phrases and fields."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def record(self, phrase: str, **fields: Any) -> None:
        self.entries.append((phrase, fields))

    info = warning = error = exception = record

    @property
    def phrases(self) -> list[str]:
        return [phrase for phrase, _ in self.entries]


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
        self.clock = DatabaseClock()

    def transact(self, work: Callable[[Connection], T]) -> NoReturn:
        raise StoreUnavailableError("away")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        raise StoreUnavailableError("away")
        yield


def make_runtime(
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    *contexts: SourceContext,
    kinds: Kinds | None = None,
    environ: dict[str, str] | None = None,
) -> runtime.Runtime:
    """Make the runtime of this process, with `store`, `contexts` and `kinds` in place of those that the settings describe."""
    made = runtime.Runtime(settings.load(environ=environ or {}))
    source_contexts = {context.source: context for context in contexts}
    vars(made).update(store=store, source_contexts=source_contexts, kinds=kinds or {}, unserved={})
    monkeypatch.setattr(runtime, "_current", made)
    return made
