"""Time that passes only when a test lets it pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import BigInteger, ColumnElement, literal

_START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class FakeTime:
    """Takes the place of the module `time` and of the database's clock; both move on by `sleep`, or if a test sets one of them."""

    def __init__(self) -> None:
        self.elapsed = timedelta(0)
        #: How far the machine's clock and the database's are off.
        self.machine_ahead = timedelta(0)
        self.database_ahead = timedelta(0)

    def monotonic(self) -> float:
        return 1000 + self.elapsed.total_seconds()

    def time(self) -> float:
        return (_START + self.elapsed + self.machine_ahead).timestamp()

    @property
    def database_time(self) -> datetime:
        return _START + self.elapsed + self.database_ahead

    def sleep(self, seconds: float) -> None:
        self.elapsed += timedelta(seconds=seconds)

    def database_clock(self, _dialect: str) -> ColumnElement[int]:
        """As `worker.store.dialects.clock`: microseconds since 1970 UTC."""
        since_1970 = self.database_time - datetime(1970, 1, 1, tzinfo=UTC)
        return literal(since_1970 // timedelta(microseconds=1), BigInteger)

    def install(self, monkeypatch: pytest.MonkeyPatch, *modules: str) -> FakeTime:
        """Let `modules` use this in place of what they call `time` and `clock`."""
        for module in modules:
            monkeypatch.setattr(f"{module}.time", self, raising=False)
            monkeypatch.setattr(f"{module}.clock", self.database_clock, raising=False)
        return self
