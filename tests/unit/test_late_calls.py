"""From when a call counts that started later than its slot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.fake_time import FakeTime
from worker.core.errors import VodUnavailableError
from worker.store.rate_limit import Slot
from worker.sync.fetch import record_late_start
from worker.vod.testing import FakeVod

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime().install(monkeypatch, "worker.store.rate_limit")


def test_a_late_call_that_was_never_sent_counts_from_its_start(fake_time: FakeTime) -> None:
    vod, slot = FakeVod(), Slot(at=NOON, due=fake_time.monotonic())
    # The call before was sent long ago.
    vod.sent_at = fake_time.monotonic() - 60
    late: dict[datetime, datetime] = {}

    def call() -> None:
        with record_late_start(vod, slot, late):
            fake_time.sleep(5)
            raise VodUnavailableError("no connection")

    fake_time.sleep(0.3)
    with pytest.raises(VodUnavailableError):
        call()

    assert late == {NOON: NOON + 0.3 * SECOND}


def test_a_call_that_was_sent_in_time_is_not_adjusted_even_if_the_answer_takes_long(fake_time: FakeTime) -> None:
    vod, slot = FakeVod(), Slot(at=NOON, due=fake_time.monotonic())
    late: dict[datetime, datetime] = {}

    with record_late_start(vod, slot, late):
        fake_time.sleep(0.009)
        vod.sent_at = fake_time.monotonic()
        fake_time.sleep(5)

    assert late == {}
