"""An installation of vodsync with real processes, which tests use through HTTP, SQL and the command line alone."""

from __future__ import annotations

import atexit
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import kombu
import redis
import sqlalchemy as sa

from tests.conftest import own_database, require
from tests.system.processes import VODSYNC, Process, clean_environment, eventually, free_port, run

ACCESS_KEY_ID = "LTAI5tSystemTestKeyId"
ACCESS_KEY_SECRET = "Sys7emTestAccessKeySecret"
CALLBACK_KEY = "Sys7emTestCallbackKey"
DATABASE_PASSWORD = "Sys7emTestDbPassword"

#: What no log may contain.
_SECRET = re.compile(
    rf"{ACCESS_KEY_SECRET}|{CALLBACK_KEY}|{DATABASE_PASSWORD}|guest:guest|auth_key=(?!\*)\w|[?&]Signature=(?!\*)[\w%]|security-token=(?!\*)\w"
)

#: Each pytest-xdist process has its own database number, so that none waits for another.
REDIS_DATABASE = 9 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 6


@dataclass(frozen=True)
class Pair:
    """A database and a broker by the names of their servers. None means SQLite or the embedded broker."""

    database: str | None
    broker: str | None


PAIRS = {
    "sqlite-embedded": Pair(None, None),
    "postgresql-rabbitmq": Pair("postgresql", "rabbitmq"),
    "mariadb-redis": Pair("mariadb", "redis"),
}


def signed(body: bytes, *, url: str, key: str = CALLBACK_KEY, at: float | None = None) -> dict[str, str]:
    """Return the headers with which VOD sends `body` (vod-protocol 1.3)."""
    timestamp = str(int(time.time() if at is None else at))
    digest = hashlib.md5(f"{url}|{timestamp}|{key}".encode()).hexdigest()
    return {"Content-Type": "application/json", "X-VOD-TIMESTAMP": timestamp, "X-VOD-SIGNATURE": digest}


def analysed(media_id: str, **more: Any) -> dict[str, Any]:
    """Return the notification that an analysis is complete (vod-protocol 2.3)."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"EventType": "VideoAnalysisComplete", "EventTime": now, "Status": "success", "VideoId": media_id} | more


class Database:
    """Reads tables with plain SQL."""

    def __init__(self, url: str) -> None:
        drivers = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql", "sqlite": "sqlite"}
        parsed = sa.make_url(url)
        self.backend = parsed.get_backend_name()
        self._engine = sa.create_engine(parsed.set(drivername=drivers[self.backend]), isolation_level="AUTOCOMMIT")

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(sa.text(query), values)]

    def table(self, name: str) -> list[dict[str, Any]]:
        return self.rows(f"SELECT * FROM {name}")

    def value(self, query: str, **values: Any) -> Any:
        (row,) = self.rows(query, **values)
        (value,) = row.values()
        return value

    def count(self, table: str) -> int:
        return int(self.value(f"SELECT count(*) FROM {table}"))

    def connection(self) -> sa.Connection:
        return self._engine.connect()

    def do(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(sa.text(statement))

    def close(self) -> None:
        self._engine.dispose()


class Installation:
    """Its own database, broker and folder with logs, an emulated VOD, and the roles that a test starts."""

    def __init__(self, folder: Path, *, database_url: str, broker_url: str | None, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.callback_url = f"{self.url}/callbacks"
        self.settings = {
            "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
            "VODSYNC_CALLBACK_URL": self.callback_url,
            "VODSYNC_CALLBACK_KEYS": CALLBACK_KEY,
            "VODSYNC_PORT": str(self.port),
            "VODSYNC_DATABASE_URL": database_url,
            **({"VODSYNC_BROKER_URL": broker_url} if broker_url else {}),
            **settings,
        }
        self.database = Database(database_url)
        self.http = httpx.Client(base_url=self.url, timeout=40, trust_env=False)
        self.processes: dict[str, Process] = {}

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment(self.settings, self.folder)

    def start(self, name: str, *arguments: str, command: Sequence[str] = VODSYNC, **settings: str) -> Process:
        """Start a role as a process, with `settings` in addition to those of the installation."""
        environment = clean_environment(self.settings | settings, self.folder)
        log = self.folder / f"{name}.log"
        process = Process([*command, *arguments], folder=self.folder, environment=environment, log=log)
        self.processes[name] = process
        return process

    def start_emulator(self, *arguments: str, notify: bool = True) -> None:
        """Start the emulator. `notify` is False if the test sends the notifications itself."""
        callback = ("--callback-url", self.callback_url, "--callback-key", CALLBACK_KEY) if notify else ()
        emulator = self.start("emulator", "emulate", "--port", "0", *callback, *arguments)
        url = wait_for_emulator(emulator)
        self.settings["VODSYNC_ENDPOINT"] = url
        self.emulator = emulator_client(url)

    def run(self, *arguments: str, stdin: str | None = None, within: float = 30) -> subprocess.CompletedProcess[str]:
        """Run one command with this installation's settings."""
        return run(*arguments, folder=self.folder, environment=self.environment, stdin=stdin, within=within)

    def is_alive(self) -> bool:
        """Return whether the receiver serves requests. Touches neither database nor spool."""
        try:
            return self.http.get("/livez").status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, *, within: float = 20) -> None:
        eventually(self._ready, within=within, missing=lambda: f"200 from {self.url}/readyz; logs:\n{self.logs()[-3000:]}")

    def notify(
        self, body: bytes | dict[str, Any], *, path: str = "/callbacks", key: str = CALLBACK_KEY, at: float | None = None
    ) -> httpx.Response:
        """Send one signed notification as VOD does."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(path, content=content, headers=signed(content, url=self.callback_url, key=key, at=at))

    def wait_until_synced(self, *, within: float = 30) -> None:
        """Wait until the emulator has sent all its notifications and no request is due."""
        eventually(
            lambda: not self.emulator.get("/deliveries").json()["pending"],
            within=within,
            missing=lambda: f"deliveries: {self.emulator.get('/deliveries').json()}",
        )
        count_due = "SELECT count(*) FROM vod_sync_request WHERE waits = 0"
        eventually(lambda: not self.database.value(count_due), within=within, missing=self._describe_due)

    def calls(self) -> dict[str, Any]:
        """Return the emulator's counters of BatchGetMediaInfos."""
        counters: dict[str, Any] = self.emulator.get("/calls").json()["BatchGetMediaInfos"]
        return counters

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """Stop all processes and check their exit codes and logs."""
        for process in self.processes.values():
            process.terminate()
        codes = {name: process.wait(within=30) for name, process in self.processes.items()}
        self.http.close()
        if hasattr(self, "emulator"):
            self.emulator.close()
        self.database.close()
        logs = self.logs()
        secret = _SECRET.search(logs)
        assert secret is None, f"a log contains a secret: …{logs[max(0, secret.start() - 300) : secret.end() + 40]}…"
        assert "Traceback" not in logs, f"a log contains a traceback:\n{logs[max(0, logs.index('Traceback') - 1500) :][:5000]}"
        crashed = {name: code for name, code in codes.items() if code > 0}
        assert not crashed, f"roles ended with an error: {crashed}\n{logs[-3000:]}"

    def _ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _describe_due(self) -> str:
        due = self.database.rows("SELECT * FROM vod_sync_request")
        return f"{len(due)} requests are still there, for instance {due[0] if due else None}; logs:\n{self.logs()[-3000:]}"


def wait_for_emulator(process: Process) -> str:
    """Return the URL that the emulator listens on."""
    line = eventually(
        lambda: re.search(r"listening on (http://\S+)\n", process.log), within=15, missing="the emulator's line `listening on`"
    )
    assert line is not None
    return line[1]


def emulator_client(url: str) -> httpx.Client:
    """Return a client for the emulator's control API."""
    return httpx.Client(base_url=f"{url}/emulator", timeout=60, trust_env=False)


@contextmanager
def installed(pair: Pair, folder: Path, redis_database: int = REDIS_DATABASE, /, **settings: str) -> Iterator[Installation]:
    """An installation with a migrated database and an empty broker. No role runs yet."""
    with ExitStack() as stack:
        database_url = stack.enter_context(created_database(pair.database, folder))
        broker_url = stack.enter_context(_broker(pair.broker, redis_database))
        installation = Installation(folder, database_url=database_url, broker_url=broker_url, **settings)
        stack.callback(installation.close)
        migrated = installation.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        yield installation


@contextmanager
def created_database(name: str | None, folder: Path) -> Iterator[str]:
    if name is None:
        yield f"sqlite:///{folder / 'vodsync.db'}"
        return
    created = own_database(name)
    url = sa.make_url(next(created))
    try:
        with _own_user(name, url) as user:
            yield url.set(username=user, password=DATABASE_PASSWORD).render_as_string(hide_password=False)
    finally:
        next(created, None)


@contextmanager
def _own_user(name: str, url: sa.URL) -> Iterator[str]:
    """A user with all rights in this database and no others. Its password must not appear in a log."""
    user = f"vodsync_{secrets.token_hex(4)}"
    if name == "postgresql":
        create = [f"CREATE ROLE {user} LOGIN PASSWORD '{DATABASE_PASSWORD}'", f"ALTER DATABASE {url.database} OWNER TO {user}"]
        create.append(f"ALTER SCHEMA public OWNER TO {user}")
        drop = [f"ALTER DATABASE {url.database} OWNER TO CURRENT_USER", f"REASSIGN OWNED BY {user} TO CURRENT_USER"]
        drop += [f"DROP OWNED BY {user}", f"DROP ROLE {user}"]
    else:
        create = [f"CREATE USER {user}@'{host}' IDENTIFIED BY '{DATABASE_PASSWORD}'" for host in ("%", "localhost")]
        create += [f"GRANT ALL ON {url.database}.* TO {user}@'{host}'" for host in ("%", "localhost")]
        drop = [f"DROP USER {user}@'{host}'" for host in ("%", "localhost")]
    administration = Database(url.render_as_string(hide_password=False))
    try:
        for statement in create:
            administration.do(statement)
        yield user
    finally:
        for statement in drop:
            administration.do(statement)
        administration.close()


@contextmanager
def _broker(name: str | None, redis_database: int) -> Iterator[str | None]:
    """An empty broker that no other test process uses at the same time, because the names of our queues are fixed."""
    if name is None:
        yield None
        return
    url = require(name)
    own = _own_virtual_host(url) if name == "rabbitmq" else urlsplit(url)._replace(path=f"/{redis_database}").geturl()
    with _exclusive(own or name):
        url = own or url
        if name == "redis":
            with redis.Redis.from_url(url) as client:
                client.flushdb()
        else:
            with kombu.Connection(url) as connection:
                for queue in ("vodsync.sync", "vodsync.reprocess", "vodsync.reprocess.rejected"):
                    connection.channel().queue_delete(queue)
        yield url


@functools.cache
def _own_virtual_host(url: str) -> str | None:
    """Return the URL of a virtual host that only this process uses, or None if we may not create one."""
    program = shutil.which("rabbitmqctl")
    if program is None:
        return None
    parts = urlsplit(url)
    name = f"vodsync-test-{os.getpid()}"
    own = parts._replace(path=f"/{name}").geturl()
    try:
        for command in (("add_vhost", name), ("set_permissions", "-p", name, parts.username or "guest", ".*", ".*", ".*")):
            subprocess.run([program, "-q", *command], check=True, capture_output=True, timeout=30)
        atexit.register(subprocess.run, [program, "-q", "delete_vhost", name], capture_output=True)
        with kombu.Connection(own) as connection:
            connection.ensure_connection(max_retries=1)
    except (subprocess.SubprocessError, OSError, kombu.exceptions.KombuError):
        return None
    return own


@contextmanager
def _exclusive(name: str) -> Iterator[None]:
    """Hold a lock on `name` against other processes. This process may take it again."""
    with ExitStack() as stack:
        if not _held[name]:
            file = f"vodsync-test-{hashlib.md5(name.encode()).hexdigest()}.lock"
            lock = stack.enter_context(Path(tempfile.gettempdir(), file).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        _held[name] += 1
        try:
            yield
        finally:
            _held[name] -= 1


_held: Counter[str] = Counter()
