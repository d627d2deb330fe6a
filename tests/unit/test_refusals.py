"""Which refused callbacks are a problem, what the sentences contain, and what is logged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import NOON, SECOND
from worker.web import refusals
from worker.web.refusals import Refusals

MINUTE = timedelta(minutes=1)
ERROR = "the signature does not match"


class Log:
    """Collects what is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, phrase: str, **fields: Any) -> None:
        self.lines.append((phrase, fields))

    info = warning

    def phrases(self) -> list[str]:
        return [phrase for phrase, _ in self.lines]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    collected = Log()
    monkeypatch.setattr(refusals, "log", collected)
    return collected


@pytest.fixture
def callbacks(log: Log) -> Refusals:
    return Refusals(["default", "studio"])


def test_one_unsigned_request_after_good_ones_is_no_problem(callbacks: Refusals) -> None:
    callbacks.accepted("default", NOON)
    for second in range(300):
        callbacks.refused("default", "unsigned", ERROR, is_signed=False, now=NOON + second * SECOND)

    assert callbacks.problems(NOON + 5 * MINUTE) == []


@pytest.mark.parametrize(("count", "minutes", "problems"), [(1, 0, 0), (2, 5, 0), (3, 0, 0), (3, 5, 1), (100, 5, 1)])
def test_unsigned_requests_are_a_problem_if_they_last_and_none_was_accepted(
    callbacks: Refusals, count: int, minutes: int, problems: int
) -> None:
    for number in range(count):
        callbacks.refused("default", "unsigned", ERROR, is_signed=False, now=NOON + number * minutes * MINUTE)

    sentences = callbacks.problems(NOON)

    assert len(sentences) == problems
    assert all("none was accepted since the start" in sentence and "(unsigned)" in sentence for sentence in sentences)


def test_a_wrong_signature_is_a_problem_with_the_facts(callbacks: Refusals) -> None:
    callbacks.accepted("default", NOON)
    callbacks.refused("default", "signature", ERROR, is_signed=True, now=NOON + MINUTE)
    callbacks.refused("default", "unsigned", ERROR, is_signed=False, now=NOON + 2 * MINUTE)

    (sentence,) = callbacks.problems(NOON + 3 * MINUTE)

    assert sentence.startswith("2 callbacks to source default refused since 2026-03-01 12:01:00 UTC (signature), ")
    assert "1 of them without a signature; the last one was accepted at 2026-03-01 12:00:00 UTC; compare" in sentence


def test_an_accepted_callback_ends_the_problem_of_its_source(callbacks: Refusals, log: Log) -> None:
    for source in ("default", "studio"):
        callbacks.refused(source, "stale", ERROR, is_signed=True, now=NOON)

    callbacks.accepted("default", NOON + 2 * MINUTE)

    assert [sentence.split()[4] for sentence in callbacks.problems(NOON)] == ["studio"]
    assert log.phrases() == ["callbacks are refused", "callbacks are refused", "callbacks are accepted again"]


def test_refused_callbacks_are_logged_once_a_minute_whatever_happens_between(callbacks: Refusals, log: Log) -> None:
    for second in range(50):
        callbacks.refused("default", "unsigned", ERROR, is_signed=False, now=NOON + second * SECOND)
        callbacks.accepted("default", NOON + second * SECOND)

    assert log.phrases() == ["callbacks are refused"]


def test_misrouted_callbacks_are_a_problem_with_the_path_and_the_expected_ones(callbacks: Refusals, log: Log) -> None:
    for path in ("/vod/callbacks", "/vod/callbacks/"):
        callbacks.misrouted("POST", path, "path", NOON)
    callbacks.misrouted("PUT", "/callbacks", "method", NOON)

    by_path, by_method = callbacks.problems(NOON)

    assert by_path.startswith("2 signed requests were refused since 2026-03-01 12:00:00 UTC, the last one POST '/vod/callbacks/'")
    assert "callbacks are taken with POST at /callbacks, /callbacks/studio only" in by_path
    assert "1 signed request was refused" in by_method
    assert "PUT '/callbacks'" in by_method
    assert log.phrases() == ["signed requests arrive at a path that takes no callbacks"] * 2
    assert callbacks.problems(NOON + timedelta(days=1)) == []


def test_a_path_from_outside_is_shortened_and_escaped(callbacks: Refusals, log: Log) -> None:
    for number in range(1000):
        callbacks.misrouted("POST", f"/\x1b[31m\n{number}" + "a" * 10_000, "path", NOON)

    (sentence,) = callbacks.problems(NOON)

    assert sentence.isprintable()
    assert len(sentence) < 500
    assert len(log.lines) == 1
    assert "\n" not in log.lines[0][1]["request"]
