"""Whether a driver's error means that the database is unavailable or that it refuses a row."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from worker.store import _write_error
from worker.store.write_faults import WriteFault, write_fault

UNAVAILABLE, REFUSED, UNCLEAR = WriteFault.UNAVAILABLE, WriteFault.REFUSED, WriteFault.UNCLEAR


def failed(original: Exception, kind: type[DBAPIError] = OperationalError, *, lost: bool = False) -> DBAPIError:
    return kind("INSERT", {}, original, connection_invalidated=lost)


def postgresql(state: str) -> DBAPIError:
    original: Any = psycopg.errors.lookup(state)("no") if state != "XX999" else psycopg.OperationalError("no")
    if state == "XX999":
        original.sqlstate = state
    return failed(original)


def sqlite(code: int) -> DBAPIError:
    original = sqlite3.OperationalError("no")
    original.sqlite_errorcode = code
    return failed(original)


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ("22001", REFUSED),
        ("22P05", REFUSED),
        ("22021", REFUSED),
        ("22003", REFUSED),
        ("23514", REFUSED),
        ("54000", REFUSED),
        ("23505", UNCLEAR),
        ("57014", UNCLEAR),
        ("57P02", UNCLEAR),
        ("XX000", UNCLEAR),
        ("XX999", UNCLEAR),
        ("57P01", UNAVAILABLE),
        ("53100", UNAVAILABLE),
        ("53300", UNAVAILABLE),
        ("25006", UNAVAILABLE),
        ("42501", UNAVAILABLE),
        ("42P01", UNAVAILABLE),
        ("55P03", UNAVAILABLE),
        ("58030", UNAVAILABLE),
    ],
)
def test_the_sqlstate_of_postgresql_decides(state: str, fault: WriteFault) -> None:
    assert write_fault(postgresql(state)) is fault


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (1406, REFUSED),
        (1366, REFUSED),
        (1153, REFUSED),
        (1264, REFUSED),
        (4025, REFUSED),
        (1062, UNCLEAR),
        (9999, UNCLEAR),
        (1205, UNAVAILABLE),
        (1040, UNAVAILABLE),
        (1290, UNAVAILABLE),
        (1142, UNAVAILABLE),
        (1114, UNAVAILABLE),
        (2003, UNAVAILABLE),
    ],
)
def test_the_error_number_of_mariadb_decides(number: int, fault: WriteFault) -> None:
    original: Any = pymysql.err.OperationalError(number, "no")
    # The server sends one with each error. It is the same for most numbers.
    original.sqlstate = "HY000"

    assert write_fault(failed(original)) is fault


@pytest.mark.parametrize("number", [2006, 2013])
def test_a_connection_that_was_lost_while_rows_were_sent_is_unclear(number: int) -> None:
    # The server closes it when it gets too large a packet, and also when it goes down.
    assert write_fault(failed(pymysql.err.OperationalError(number, "gone"), lost=True)) is UNCLEAR
    assert write_fault(failed(psycopg.OperationalError("server closed the connection"), lost=True)) is UNCLEAR


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (sqlite3.SQLITE_FULL, UNAVAILABLE),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, UNAVAILABLE),
        (sqlite3.SQLITE_IOERR_WRITE, UNAVAILABLE),
        (sqlite3.SQLITE_READONLY, UNAVAILABLE),
        (sqlite3.SQLITE_TOOBIG, REFUSED),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, REFUSED),
        (sqlite3.SQLITE_ERROR, UNCLEAR),
    ],
)
def test_the_result_code_of_sqlite_decides(code: int, fault: WriteFault) -> None:
    assert write_fault(sqlite(code)) is fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (failed(psycopg.DataError("text cannot contain NUL"), DataError), REFUSED),
        (failed(pymysql.err.IntegrityError("no"), IntegrityError), REFUSED),
        (failed(psycopg.OperationalError("connection failed")), UNAVAILABLE),
        (failed(pymysql.err.InterfaceError("closed"), InterfaceError), UNAVAILABLE),
        (failed(psycopg.ProgrammingError("no"), ProgrammingError), UNCLEAR),
    ],
)
def test_without_a_code_the_kind_of_error_decides(error: DBAPIError, fault: WriteFault) -> None:
    assert write_fault(error) is fault


#: Never connected.
ENGINE = sa.create_engine("sqlite://")


def test_the_sentence_about_a_refused_row_does_not_blame_the_server() -> None:
    refused = _write_error(postgresql("22001"), ENGINE)
    unclear = _write_error(failed(pymysql.err.OperationalError(2006, "gone"), lost=True), ENGINE)

    assert str(refused) == "the database refuses a row: StringDataRightTruncation: no"
    assert not refused.may_be_refused
    assert unclear.may_be_refused
