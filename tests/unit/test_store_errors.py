"""The sentences about a database that did not accept a transaction."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import OperationalError, TimeoutError

from worker.store import describe, error_text
from worker.store.installation_health import Backlog, InstallationHealth
from worker.store.jobs.job_rows import Job, JobState

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class DriverError(Exception):
    """An error as a database driver raises it."""


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (DriverError("disk full\nLINE 1: INSERT"), "DriverError: disk full"),
        (DriverError(""), "DriverError: no error message"),
        (DriverError("\n"), "DriverError: no error message"),
    ],
)
def test_an_error_is_its_type_and_the_first_line_of_its_message(raised: DriverError, text: str) -> None:
    error = OperationalError("INSERT INTO vod_notification (body) VALUES (?)", {"body": "secret"}, raised)

    assert error_text(error) == text


def test_the_sentence_shows_no_statement_and_no_values_and_names_what_to_check() -> None:
    error = OperationalError("INSERT INTO vod_notification (body) VALUES (?)", {"body": "secret"}, DriverError("disk full"))

    sentence = describe(error)

    assert "INSERT" not in sentence
    assert "secret" not in sentence
    assert sentence.startswith("the database did not accept the transaction: DriverError: disk full; check that the database is")


def test_an_error_of_the_connection_pool_has_no_driver_error() -> None:
    assert error_text(TimeoutError("QueuePool limit reached")) == "TimeoutError: QueuePool limit reached"


def test_problems_do_not_end_in_an_empty_error() -> None:
    backlog = Backlog(due=0, waiting=1, dead=0, oldest_due_age=0)
    failed = Job(7, "default", "reconcile", JobState.FAILED, {}, None, {}, NOON, NOON, NOON, None)
    health = InstallationHealth(
        NOON, backlog, {}, 0, [], [], served=backlog, unserved={}, jobs=(failed,), failing={"default": (1, "")}
    )

    assert health.problems == [
        "1 sync request of source default failed and will be retried: no error message",
        "reconcile 7 of source default failed: no error message (vodsync jobs show 7)",
    ]
