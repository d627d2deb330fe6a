"""Read VODSYNC_DATABASE_URL, and refuse what the database driver would ignore, misread or fail on."""

from __future__ import annotations

import inspect
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from worker.core.errors import ConfigurationError, StoreUnavailableError

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "sqlite": "sqlite",
}

#: What the parameters of other programs are called here.
_OTHER_NAMES = {
    ("pymysql", "useSSL"): "leave it out, TLS is used if the server offers it; ssl_ca=FILE makes it a condition",
    ("pymysql", "sslmode"): "use ssl_ca=FILE for TLS with a checked certificate",
    ("pymysql", "sslrootcert"): "use ssl_ca=FILE",
    ("pymysql", "ssl"): "use ssl_ca=FILE for TLS with a checked certificate",
    ("pymysql", "serverTimezone"): "leave it out, vodsync uses UTC",
    ("pymysql", "autocommit"): "leave it out, vodsync commits by itself",
    ("psycopg", "ssl"): "use sslmode=require, or sslmode=verify-full with sslrootcert=FILE",
    ("psycopg", "currentSchema"): "set VODSYNC_DATABASE_SCHEMA",
    ("psycopg", "schema"): "set VODSYNC_DATABASE_SCHEMA",
    ("psycopg", "search_path"): "set VODSYNC_DATABASE_SCHEMA",
}

#: Parameters that name a file which has to exist.
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_ca", "ssl_cert", "ssl_key", "read_default_file")

#: Arguments of PyMySQL that cannot be written as text, that it does not support, or that change what our statements mean.
_NOT_FOR_PYMYSQL = {
    *("auth_plugin_map", "autocommit", "binary_prefix", "compress", "conv", "cursorclass", "db", "defer_connect"),
    *("max_allowed_packet", "named_pipe", "passwd", "self", "ssl", "ssl_key_password", "use_unicode"),
}
#: Parameters that SQLAlchemy passes to PyMySQL as parts of its argument `ssl`.
_TLS_OF_PYMYSQL = {"ssl_ca", "ssl_capath", "ssl_cert", "ssl_check_hostname", "ssl_cipher", "ssl_key"}
#: Arguments of PyMySQL for which every text, such as "false", is true.
_SWITCHES_OF_PYMYSQL = ("ssl_disabled", "ssl_verify_cert", "ssl_verify_identity")

MAX_PORT = 65_535


def database_url(text: str) -> URL:
    """Return the URL with the driver that vodsync is tested with, or with its explicit `+driver`. Raises ConfigurationError.

    The parameters of drivers that vodsync is not tested with are not checked.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "VODSYNC_DATABASE_URL is not a database URL; use for example postgresql://user:password@host/name or "
            "sqlite:///vodsync.db, with a number as port, and write / : @ and # in the password as %2F %3A %40 and %23"
        ) from None
    backend, plus, _ = url.drivername.partition("+")
    if backend not in _DRIVERS:
        raise ConfigurationError(
            f"VODSYNC_DATABASE_URL begins with {backend}://; use postgresql://, mysql://, mariadb:// or sqlite:///"
        )
    if url.port is not None and not 0 < url.port <= MAX_PORT:
        raise ConfigurationError(f"VODSYNC_DATABASE_URL has the port {url.port}; a port is a number from 1 to {MAX_PORT}")
    if backend == "sqlite":
        _check_sqlite(url)
    elif backend in ("mysql", "mariadb") and not url.database:
        raise ConfigurationError(
            "VODSYNC_DATABASE_URL names no database; add it after the last slash: mysql://user:password@host/name"
        )
    url = url if plus else url.set(drivername=_DRIVERS[backend])
    _check_parameters(url, url.drivername.partition("+")[2] or backend)
    return url


def _check_sqlite(url: URL) -> None:
    if url.host or url.username:
        raise ConfigurationError(
            "VODSYNC_DATABASE_URL has two slashes and a name after sqlite:; use sqlite:///vodsync.db for a file in the working "
            "directory, or sqlite:////var/lib/vodsync/vodsync.db"
        )
    if url.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "VODSYNC_DATABASE_URL has no file name, but several processes share the database; use sqlite:///vodsync.db"
        )


def check_sqlite_path(url: URL) -> None:
    """Raises StoreUnavailableError if there can be no SQLite file at the path of `url`, for instance before its disk is mounted."""
    path = Path(url.database or "")
    if path.is_dir():
        raise StoreUnavailableError(
            f"VODSYNC_DATABASE_URL names the directory {path}; add the name of a file, like {path}/vodsync.db"
        )
    if not path.parent.is_dir():
        raise StoreUnavailableError(
            f"VODSYNC_DATABASE_URL names a file in {path.parent}, which is not a directory; create it first"
        )


def _check_parameters(url: URL, driver: str) -> None:
    if not url.query or not (known := _known_parameters(driver)):
        return
    for name in url.query:
        if name not in known:
            raise ConfigurationError(_unknown_parameter(driver, name, known))
    for name in _FILES:
        value = url.query.get(name)
        # "system" is libpq's name for the certificates of the operating system.
        if value not in (None, "", "system") and not Path(str(value)).expanduser().is_file():
            raise ConfigurationError(f"VODSYNC_DATABASE_URL: {name} names the file {value}, which does not exist; correct the path")


def _known_parameters(driver: str) -> set[str]:
    """Return the names that may follow the ? of the URL; an empty set if we do not know the driver."""
    if driver == "psycopg":
        import psycopg

        return {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    if driver == "pymysql":
        import pymysql

        return (set(inspect.signature(pymysql.connections.Connection.__init__).parameters) | _TLS_OF_PYMYSQL) - _NOT_FOR_PYMYSQL
    # SQLite's own parameters, such as mode=ro, need a URI, whose path has another meaning.
    return {"timeout"} if driver in ("sqlite", "pysqlite") else set()


def _unknown_parameter(driver: str, name: str, known: set[str]) -> str:
    advice = _OTHER_NAMES.get((driver, name), f"remove it; allowed are {', '.join(sorted(known))}")
    return f"VODSYNC_DATABASE_URL has the parameter {name}, which vodsync cannot use with {driver}: {advice}"


def number(url: URL, name: str, default: float) -> float:
    """Return the parameter `name` of the URL as a number of seconds. Raises ConfigurationError if it is not a positive one."""
    text = url.query.get(name)
    if text is None:
        return default
    try:
        value = float(text if isinstance(text, str) else text[-1])
    except ValueError:
        value = 0.0
    if not 0 < value < 86_400:
        raise ConfigurationError(f"VODSYNC_DATABASE_URL: {name} has to be a number of seconds, like {name}={default}")
    return value


def tls_switches(url: URL) -> dict[str, bool | None]:
    """Return PyMySQL's arguments that are true or false. Raises ConfigurationError if the URL has another value."""
    switches: dict[str, bool | None] = {}
    for name in _SWITCHES_OF_PYMYSQL:
        text = url.query.get(name)
        if text is None:
            continue
        if text not in ("true", "false"):
            raise ConfigurationError(f"VODSYNC_DATABASE_URL: {name} has to be true or false")
        switches[name] = text == "true"
        if name != "ssl_disabled" and "ssl_ca" in url.query:
            # With these PyMySQL would forget the file, which makes it check the certificate and the host name anyway.
            if text == "false":
                raise ConfigurationError(f"VODSYNC_DATABASE_URL: {name}=false contradicts ssl_ca; remove one of the two")
            switches[name] = None
    return switches
