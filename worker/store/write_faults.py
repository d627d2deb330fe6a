"""Decide from a driver's error whether the database is unavailable or refuses a row of the write."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from worker.store.server_errors import error_code


class WriteFault(enum.Enum):
    #: The server, its disk, its limits, its locks or our rights prevent every write.
    UNAVAILABLE = "unavailable"
    #: The row is the cause. The same write will fail again, and other writes succeed.
    REFUSED = "refused"
    #: Either. The caller finds out by storing other rows.
    UNCLEAR = "unclear"


#: PostgreSQL, by SQLSTATE. A class of two characters applies to the codes that are not listed themselves.
_POSTGRESQL = {
    "08": WriteFault.UNAVAILABLE,  # connection
    "21": WriteFault.REFUSED,  # cardinality: two rows of one statement have the same key
    "22": WriteFault.REFUSED,  # data: too long, out of range, a character that the encoding of the database does not have
    "23": WriteFault.REFUSED,  # constraint
    "23505": WriteFault.UNCLEAR,  # unique key: another process inserted the row first, again and again
    "25": WriteFault.UNAVAILABLE,  # transaction state: read-only server, idle for too long
    "26": WriteFault.UNAVAILABLE,  # prepared statement does not exist: a pooler gave us another connection
    "28": WriteFault.UNAVAILABLE,  # authentication
    "3D": WriteFault.UNAVAILABLE,  # database does not exist
    "3F": WriteFault.UNAVAILABLE,  # schema does not exist
    "40": WriteFault.UNAVAILABLE,  # deadlock, serialization
    "42": WriteFault.UNAVAILABLE,  # missing table, column or privilege
    "44": WriteFault.REFUSED,  # check option of a view
    "53": WriteFault.UNAVAILABLE,  # disk full, out of memory, too many connections
    "54": WriteFault.REFUSED,  # program limit: the row or the statement is too large
    "55": WriteFault.UNAVAILABLE,  # lock not available
    "57": WriteFault.UNAVAILABLE,  # shutdown, start-up, terminated by an administrator
    "57014": WriteFault.UNCLEAR,  # statement timeout
    "57P02": WriteFault.UNCLEAR,  # a backend crashed, perhaps because of this row
    "58": WriteFault.UNAVAILABLE,  # system error: input and output
}

#: MariaDB and MySQL, by error number.
_MYSQL = {
    # The row.
    1048: WriteFault.REFUSED,  # NULL in a column without NULL
    1118: WriteFault.REFUSED,  # row size too large
    1153: WriteFault.REFUSED,  # packet larger than max_allowed_packet
    1197: WriteFault.REFUSED,  # transaction larger than max_binlog_cache_size
    1264: WriteFault.REFUSED,  # number out of range
    1265: WriteFault.REFUSED,  # data truncated
    1267: WriteFault.REFUSED,  # character set of the connection cannot be compared with that of the column
    1292: WriteFault.REFUSED,  # invalid value
    1300: WriteFault.REFUSED,  # invalid string for the character set
    1301: WriteFault.REFUSED,  # result larger than max_allowed_packet
    1366: WriteFault.REFUSED,  # character that the column or connection cannot represent
    1406: WriteFault.REFUSED,  # data too long
    1451: WriteFault.REFUSED,  # foreign key
    1452: WriteFault.REFUSED,  # foreign key
    1526: WriteFault.REFUSED,  # no partition for the value
    1690: WriteFault.REFUSED,  # number out of range
    1713: WriteFault.REFUSED,  # undo log record too large
    3140: WriteFault.REFUSED,  # invalid JSON
    3819: WriteFault.REFUSED,  # check constraint (MySQL)
    3988: WriteFault.REFUSED,  # character that the column cannot represent (MySQL)
    4025: WriteFault.REFUSED,  # check constraint (MariaDB)
    # The server, its disk, its limits.
    3: WriteFault.UNAVAILABLE,  # error writing a file
    28: WriteFault.UNAVAILABLE,  # no space left
    1020: WriteFault.UNAVAILABLE,  # row changed since it was read
    1021: WriteFault.UNAVAILABLE,  # disk full
    1026: WriteFault.UNAVAILABLE,  # error writing a file
    1037: WriteFault.UNAVAILABLE,  # out of memory
    1038: WriteFault.UNAVAILABLE,  # out of sort memory
    1040: WriteFault.UNAVAILABLE,  # too many connections
    1041: WriteFault.UNAVAILABLE,  # out of memory
    1044: WriteFault.UNAVAILABLE,  # access denied to the database
    1045: WriteFault.UNAVAILABLE,  # access denied
    1049: WriteFault.UNAVAILABLE,  # unknown database
    1053: WriteFault.UNAVAILABLE,  # server shutdown
    1054: WriteFault.UNAVAILABLE,  # unknown column
    1114: WriteFault.UNAVAILABLE,  # table full: no space for the tablespace
    1129: WriteFault.UNAVAILABLE,  # host blocked
    1130: WriteFault.UNAVAILABLE,  # host not allowed
    1142: WriteFault.UNAVAILABLE,  # privilege for the table
    1143: WriteFault.UNAVAILABLE,  # privilege for the column
    1146: WriteFault.UNAVAILABLE,  # table does not exist
    1203: WriteFault.UNAVAILABLE,  # too many connections of the user
    1205: WriteFault.UNAVAILABLE,  # lock wait timeout
    1213: WriteFault.UNAVAILABLE,  # deadlock
    1226: WriteFault.UNAVAILABLE,  # resource limit of the user
    1227: WriteFault.UNAVAILABLE,  # privilege
    1290: WriteFault.UNAVAILABLE,  # read-only server
    1665: WriteFault.UNAVAILABLE,  # binlog_format does not fit the isolation level
    1792: WriteFault.UNAVAILABLE,  # read-only transaction
    1836: WriteFault.UNAVAILABLE,  # read-only mode
    1927: WriteFault.UNAVAILABLE,  # connection was killed
    2002: WriteFault.UNAVAILABLE,  # cannot connect
    2003: WriteFault.UNAVAILABLE,  # cannot connect
    2005: WriteFault.UNAVAILABLE,  # unknown host
    # Either. A server that gets a too large packet closes the connection, and the driver reports 2006 or 2013.
    1062: WriteFault.UNCLEAR,  # duplicate key: another process inserted the row first, again and again
}

#: SQLite, by primary result code.
_SQLITE = {
    3: WriteFault.UNAVAILABLE,  # PERM
    5: WriteFault.UNAVAILABLE,  # BUSY
    6: WriteFault.UNAVAILABLE,  # LOCKED
    7: WriteFault.UNAVAILABLE,  # NOMEM
    8: WriteFault.UNAVAILABLE,  # READONLY
    9: WriteFault.UNAVAILABLE,  # INTERRUPT
    10: WriteFault.UNAVAILABLE,  # IOERR
    11: WriteFault.UNAVAILABLE,  # CORRUPT
    13: WriteFault.UNAVAILABLE,  # FULL
    14: WriteFault.UNAVAILABLE,  # CANTOPEN
    15: WriteFault.UNAVAILABLE,  # PROTOCOL: locking
    17: WriteFault.UNAVAILABLE,  # SCHEMA: changed meanwhile
    18: WriteFault.REFUSED,  # TOOBIG
    19: WriteFault.REFUSED,  # CONSTRAINT
    20: WriteFault.REFUSED,  # MISMATCH: type
    22: WriteFault.UNAVAILABLE,  # NOLFS: file too large for the system
    23: WriteFault.UNAVAILABLE,  # AUTH
    26: WriteFault.UNAVAILABLE,  # NOTADB
}


def write_fault(error: DBAPIError) -> WriteFault:
    """Return what kind of failure a write ended with. An unknown code is UNCLEAR."""
    # Any: the drivers' exceptions have no common type.
    original: Any = error.orig
    number = error_code(original)
    if isinstance(number, str):
        return _POSTGRESQL.get(number) or _POSTGRESQL.get(number[:2], WriteFault.UNCLEAR)
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code & 0xFF, WriteFault.UNCLEAR)
    if number in _MYSQL:
        return _MYSQL[number]
    if error.connection_invalidated:
        return WriteFault.UNCLEAR
    if isinstance(error, DataError | IntegrityError):
        return WriteFault.REFUSED
    # Without a code of the server, the driver failed to connect, or gave up waiting.
    no_answer = isinstance(error, OperationalError | InterfaceError) and not isinstance(number, int)
    return WriteFault.UNAVAILABLE if no_answer else WriteFault.UNCLEAR
