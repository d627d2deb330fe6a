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
    assert sentence.startswith(
        "the database did not accept the transaction: DriverError: disk full; check VODSYNC_DATABASE_URL and"
    )


class CodedError(Exception):
    """An error with the SQLSTATE of PostgreSQL, or with the number of MariaDB and MySQL as its first argument."""

    def __init__(self, *arguments: object, sqlstate: str | None = None) -> None:
        super().__init__(*arguments)
        self.sqlstate = sqlstate


READ_ONLY = "--read-only option so it cannot execute this statement"


@pytest.mark.parametrize(
    "raised",
    [
        CodedError("cannot execute INSERT in a read-only transaction", sqlstate="25006"),
        CodedError(1290, f"The MariaDB server is running with the {READ_ONLY}", sqlstate="HY000"),
        CodedError(1290, f"The MySQL server is running with the --super-{READ_ONLY[2:]}", sqlstate="HY000"),
        CodedError(1792, "Cannot execute statement in a READ ONLY transaction", sqlstate="25006"),
        CodedError(1836, "Running in read-only mode"),
    ],
)
def test_a_server_that_only_reads_has_a_sentence_of_its_own(raised: CodedError) -> None:
    assert describe(OperationalError("INSERT", {}, raised)).startswith("the database server only reads: CodedError: ")


@pytest.mark.parametrize(
    "raised",
    [
        CodedError(
            'connection failed: connection to server at "127.0.0.1", port 5432 failed: FATAL:  sorry, too many clients already'
        ),
        CodedError("FATAL:  remaining connection slots are reserved for non-replication superuser connections"),
        CodedError('FATAL:  too many connections for role "vodsync"'),
        CodedError("FATAL:  no more connections allowed (max_client_conn)"),
        CodedError("no text that we know", sqlstate="53300"),
        CodedError(1040, "Too many connections", sqlstate="08004"),
        CodedError(1203, "User vodsync already has more than 'max_user_connections' active connections", sqlstate="42000"),
        CodedError(1226, "User 'vodsync' has exceeded the 'max_user_connections' resource", sqlstate="42000"),
    ],
)
def test_a_server_without_another_connection_has_a_sentence_of_its_own(raised: CodedError) -> None:
    assert describe(OperationalError("SELECT", {}, raised)).startswith("the database server has no connection left: CodedError: ")


@pytest.mark.parametrize(
    "raised",
    [
        CodedError(1290, "The MariaDB server is running with the --secure-file-priv option", sqlstate="HY000"),
        CodedError(1062, "Duplicate entry 'too many connections' for key 'title'", sqlstate="23000"),
        CodedError("", sqlstate="57014"),
        CodedError(),
    ],
)
def test_other_errors_have_neither_sentence(raised: CodedError) -> None:
    assert describe(OperationalError("INSERT", {}, raised)).startswith("the database did not accept the transaction: CodedError: ")


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
