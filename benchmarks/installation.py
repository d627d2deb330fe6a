"""An installation of vodsync with real processes and its own database, which is deleted afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import sqlalchemy as sa

from worker.cli.processes import isolated_environment
from worker.core.signature import sign
from worker.store import Store, schema

KEYS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "demoKeyId", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "demoSecret"}

#: The default URLs of the servers; VODSYNC_TEST_<NAME>_URL overrides each, as for the tests. We connect to the database in the URL
#: only to create our own.
_SERVERS = {
    "postgresql": "postgresql://root@127.0.0.1:5432/postgres",
    "mariadb": "mariadb://root@127.0.0.1:3306/mysql",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
    "redis": "redis://127.0.0.1:6379/14",
}

_TIMEOUT = 30.0  # seconds for a process to start or stop

_SECRET = "benchmark"


class ServerMissingError(Exception):
    """A server that this part needs does not run; the message names it."""


class WaitTimeoutError(Exception):
    """A condition was not met in time; the message names it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A database and a broker that are measured together; `rabbitmq` or `redis`, or None for the embedded broker."""

    database: str
    broker: str | None

    def __str__(self) -> str:
        names = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB", "rabbitmq": "RabbitMQ", "redis": "Redis"}
        return f"{names[self.database]} + {names[self.broker] if self.broker else 'embedded'}"


SQLITE = Pair("sqlite", None)
POSTGRESQL = Pair("postgresql", "rabbitmq")
MARIADB = Pair("mariadb", "redis")


def server_url(name: str) -> str:
    """Return the URL of a running server. Raises ServerMissingError."""
    url = os.environ.get(f"VODSYNC_TEST_{name.upper()}_URL", _SERVERS[name])
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=2).close()
    except OSError:
        raise ServerMissingError(f"{name} does not answer at {parts.hostname}:{parts.port}") from None
    return url


@contextmanager
def folder() -> Iterator[Path]:
    """A directory for a database file, an embedded broker and logs."""
    path = Path(tempfile.mkdtemp(prefix="vodsync-benchmark-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a new, migrated database. Raises ServerMissingError."""
    name = f"vodsync_benchmark_{secrets.token_hex(6)}"
    if kind == "sqlite":
        url = f"sqlite:///{folder / name}.db"
        schema.upgrade(url)
        yield url
        return
    server = sa.make_url(server_url(kind))
    driver = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}[kind]
    admin = sa.create_engine(server.set(drivername=driver), isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        try:
            url = server.set(database=name).render_as_string(hide_password=False)
            schema.upgrade(url)
            yield url
        finally:
            with admin.connect() as connection:
                connection.execute(sa.text(f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind == "postgresql" else "")))
    finally:
        admin.dispose()


class Installation:
    """The processes, settings and store of one installation. Created by `installed`."""

    def __init__(self, stack: ExitStack, folder: Path, database_url: str, broker_url: str | None) -> None:
        self._stack = stack
        self.folder = folder
        self.port = free_port()
        self.database_url = database_url
        self.callback_url = f"http://127.0.0.1:{self.port}/callbacks"
        self.environment = isolated_environment(
            **KEYS,
            VODSYNC_DATABASE_URL=database_url,
            VODSYNC_CALLBACK_URL=self.callback_url,
            VODSYNC_CALLBACK_KEYS=_SECRET,
            VODSYNC_PORT=str(self.port),
            VODSYNC_LOG_LEVEL="warning",
            **({"VODSYNC_BROKER_URL": broker_url} if broker_url else {}),
        )
        self.store = Store.open(database_url)
        stack.callback(self.store.close)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a verb of vodsync. It is stopped with the installation."""
        return self.start_module("worker", *arguments)

    def start_module(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a module of this project in the environment of the installation."""
        environment = self.environment | {"PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(_ROOT))))}
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=(self.folder / f"{arguments[0]}-{arguments[1]}.log").open("w"),
            text=True,
        )
        self._stack.callback(_stop, process)
        return process

    def start_emulator(self, *arguments: str) -> httpx.Client:
        """Start an emulated VOD for this installation. Returns a client for its control API."""
        process = self.start("emulate", "--port", "0", *arguments)
        line = process.stdout.readline() if process.stdout else ""
        if "http://" not in line:
            raise WaitTimeoutError("the emulator did not start")
        self.environment["VODSYNC_ENDPOINT"] = line.split()[-1]
        return self._stack.enter_context(httpx.Client(base_url=line.split()[-1], timeout=30))

    def wait_until_ready(self, path: str = "/readyz") -> None:
        """Wait until the receiver answers 200 at `path`."""
        wait_for_port(self.port)
        with httpx.Client(timeout=5) as client:
            wait_until(lambda: client.get(f"http://127.0.0.1:{self.port}{path}").is_success, "the receiver became ready")

    def signed(self) -> dict[str, str]:
        """Return the headers of a signed callback. They are valid for five minutes and for every body."""
        timestamp = str(int(time.time()))
        return {"x-vod-timestamp": timestamp, "x-vod-signature": sign(self.callback_url, timestamp, _SECRET)}


@contextmanager
def installed(pair: Pair) -> Iterator[Installation]:
    """An installation on a new database, with no process running yet. Raises ServerMissingError."""
    with ExitStack() as stack:
        directory = stack.enter_context(folder())
        broker_url = server_url(pair.broker) if pair.broker else None
        database_url = stack.enter_context(database(pair.database, directory))
        yield Installation(stack.enter_context(ExitStack()), directory, database_url, broker_url)


_ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until a server listens on this port."""

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listening, f"a server listened on port {port}")


def wait_until(condition: Callable[[], object], description: str, *, timeout: float = _TIMEOUT, pause: float = 0.02) -> None:
    """Wait for a true result of `condition`. Raises WaitTimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise WaitTimeoutError(f"waited {timeout:g} s in vain until {description}")
        time.sleep(pause)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
