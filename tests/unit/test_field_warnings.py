"""Log lines about fields of VOD's answers that cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker_fakes import RecordingLog
from worker.sync import field_warnings
from worker.sync.field_warnings import FieldWarnings


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def fields_of(log: RecordingLog) -> list[dict[str, Any]]:
    return [fields for _, fields in log.entries]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> RecordingLog:
    recording = RecordingLog()
    monkeypatch.setattr(field_warnings, "log", recording)
    return recording


def test_a_field_is_logged_once_an_hour_with_a_count(log: RecordingLog) -> None:
    clock = Clock()
    warnings = FieldWarnings("default", clock=clock)

    for number in range(1000):
        warnings.count("odd", [f"Streams[{number}].StartTime"], media_id=f"m{number}")
    clock.seconds = 3600
    warnings.count("odd", ["Streams[0].StartTime"], media_id="last")

    assert [(line["field"], line["count"], line["media_id"]) for line in fields_of(log)] == [
        ("Streams[].StartTime", 1, "m0"),
        ("Streams[].StartTime", 1000, "last"),
    ]


def test_each_kind_of_field_is_logged(log: RecordingLog) -> None:
    warnings = FieldWarnings("default")

    warnings.count("odd", ["A[0]", "B"])
    warnings.count("odd", ["A[1]", "C"])

    assert [line["field"] for line in fields_of(log)] == ["A[]", "B", "C"]
