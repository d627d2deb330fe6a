"""State what an administrator of the database has to grant or to set, if the database refused a statement for the want of it."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from worker.store.server_errors import error_code

#: What receivers, workers and the command line need on the tables.
_USE = ("SELECT", "INSERT", "UPDATE", "DELETE")
#: What `vodsync migrate` needs on MariaDB and MySQL.
_MIGRATE = (*_USE, "CREATE", "ALTER", "INDEX", "DROP")

#: insufficient_privilege; invalid_schema_name: there is no schema in which the role may create a table
_POSTGRESQL_REFUSALS = {"42501", "3F000"}
#: A privilege on the database, a table, a column, a routine, or the server is missing.
_MYSQL_REFUSALS = {1044, 1142, 1143, 1370, 1227}
#: "impossible to write to binary log since BINLOG_FORMAT = STATEMENT"
_MYSQL_BINARY_LOG = 1665

_POSTGRESQL_NAMES = text(
    "SELECT quote_ident(current_user), quote_ident(current_database()),"
    " quote_ident(coalesce(current_schema(), trim(both ' \"' from regexp_replace(current_setting('search_path'), '^.*,', '')))),"
    " (SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = to_regclass('vod_schema_version'))"
)
_HIDDEN_SCHEMA = text(
    "SELECT quote_ident(nspname), quote_ident(current_user) FROM pg_namespace"
    " JOIN pg_class ON relnamespace = pg_namespace.oid AND relname = 'vod_schema_version'"
    " WHERE nspname = ANY(string_to_array(translate(current_setting('search_path'), ' \"', ''), ','))"
    " AND NOT has_schema_privilege(pg_namespace.oid, 'USAGE')"
)


def instruction(error: SQLAlchemyError, engine: Engine) -> str | None:
    """Return what an administrator has to do so that the statement succeeds; None if the error has another reason.

    Asks the database for the exact names. If it does not answer, they come from the URL.
    """
    code, message = error_code(getattr(error, "orig", None)), str(getattr(error, "orig", ""))
    if engine.dialect.name == "postgresql":
        # An error of the driver's connect has no sqlstate.
        if code in _POSTGRESQL_REFUSALS or "permission denied for database" in message:
            return _administrator_runs(_postgresql_grant(message, engine))
    elif engine.dialect.name in ("mysql", "mariadb"):
        if code == _MYSQL_BINARY_LOG:
            return "an administrator of the database has to set binlog_format to ROW or MIXED; vodsync cannot write with STATEMENT"
        if code in _MYSQL_REFUSALS:
            return _administrator_runs(_mysql_grant(message, engine))
    return None


def hidden_tables(connection: Connection) -> str | None:
    """Return what an administrator has to do if PostgreSQL hides the tables, because the role may not use their schema."""
    if connection.dialect.name != "postgresql":
        return None
    hidden = connection.execute(_HIDDEN_SCHEMA).first()
    return None if hidden is None else _administrator_runs(f"GRANT USAGE ON SCHEMA {hidden[0]} TO {hidden[1]}")


def _administrator_runs(statement: str) -> str:
    return f"an administrator of the database has to run: {statement}"


def _postgresql_grant(message: str, engine: Engine) -> str:
    names = _read(engine, _POSTGRESQL_NAMES)
    role, database, schema, owner = names or (engine.url.username or "the role of vodsync", engine.url.database, "public", None)
    if "CONNECT privilege" in message:
        return f"GRANT CONNECT ON DATABASE {database} TO {role}"
    if "for database" in message:
        return f"GRANT CREATE ON DATABASE {database} TO {role}; or, to create it: CREATE SCHEMA {schema} AUTHORIZATION {role}"
    if "must be owner" in message:
        return f"GRANT {owner} TO {role}; or run the command as {owner}, which owns the tables"
    if re.search("permission denied for (table|relation|view|sequence)", message):
        return f"GRANT {', '.join(_USE)} ON ALL TABLES IN SCHEMA {schema} TO {role}"
    if re.search("permission denied for schema|no schema has been selected", message):
        return f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"
    return f"a GRANT of this privilege to {role}"


def _mysql_grant(message: str, engine: Engine) -> str:
    account = _read(engine, text("SELECT CURRENT_USER()"))
    if account:
        user, _, host = account[0].rpartition("@")
        grantee = f"'{user}'@'{host}'"
    else:
        named = re.search(r"user ('[^']*'@'[^']*')", message)
        grantee = named[1] if named else f"'{engine.url.username}'"
    needed = re.search(r"at least one of\) the (.*?) privilege", message)
    if needed:
        return f"GRANT {needed[1]} ON *.* TO {grantee}"
    command = re.search(r"([A-Z][A-Z ,]*) command denied", message)
    privileges = _USE if command is None or set(re.split(r"\W+", command[1])) <= set(_USE) else _MIGRATE
    database = engine.dialect.identifier_preparer.quote_identifier(engine.url.database or "")
    return f"GRANT {', '.join(privileges)} ON {database}.* TO {grantee}"


def _read(engine: Engine, query: Any) -> Any:
    """Return the first row of a query, None if the database does not answer."""
    try:
        with engine.connect() as connection:
            return connection.execute(query).first()
    except SQLAlchemyError:
        return None
