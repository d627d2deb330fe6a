"""An installation of vodsync made of real processes, and what can be asked of it over HTTP and SQL alone."""

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

#: What no log may hold.
_SECRET = re.compile(
    rf"{ACCESS_KEY_SECRET}|{CALLBACK_KEY}|{DATABASE_PASSWORD}|guest:guest|auth_key=(?!\*)\w|[?&]Signature=(?!\*)[\w%]|security-token=(?!\*)\w"
)

#: Each process that shares the tests has one of its own, so that none waits for another.
REDIS_DATABASE = 9 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 6


@dataclass(frozen=True)
class Pair:
    """A database and a broker, by the names of their servers; None is SQLite and the embedded broker."""

    database: str | None
    broker: str | None


PAIRS = {
    "sqlite-embedded": Pair(None, None),
    "postgresql-rabbitmq": Pair("postgresql", "rabbitmq"),
    "mariadb-redis": Pair("mariadb", "redis"),
}


def signed(body: bytes, *, url: str, key: str = CALLBACK_KEY, at: float | None = None) -> dict[str, str]:
    """The headers with which VOD sends `body` (vod-protocol 1.3)."""
    timestamp = str(int(time.time() if at is None else at))
    digest = hashlib.md5(f"{url}|{timestamp}|{key}".encode()).hexdigest()
    return {"Content-Type": "application/json", "X-VOD-TIMESTAMP": timestamp, "X-VOD-SIGNATURE": digest}


def analysed(media_id: str, **more: Any) -> dict[str, Any]:
    """The notification that an analysis is complete (vod-protocol 2.3)."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"EventType": "VideoAnalysisComplete", "EventTime": now, "Status": "success", "VideoId": media_id} | more


class Database:
    """Reads tables as anybody with SQL would."""

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
    """One database and one broker of its own, a folder with the logs, an emulated VOD, and whichever roles a test starts."""

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
        """A role as a process of its own, with `settings` beside those of the installation."""
        environment = clean_environment(self.settings | settings, self.folder)
        log = self.folder / f"{name}.log"
        process = Process([*command, *arguments], folder=self.folder, environment=environment, log=log)
        self.processes[name] = process
        return process

    def start_emulator(self, *arguments: str, telling: bool = True) -> None:
        """`telling` is False where the test sends the notifications itself."""
        callback = ("--callback-url", self.callback_url, "--callback-key", CALLBACK_KEY) if telling else ()
        emulator = self.start("emulator", "emulate", "--port", "0", *callback, *arguments)
        listening = eventually(
            lambda: re.search(r"listening on (http://\S+)\n", emulator.log), within=15, missing="the emulator's line `listening on`"
        )
        self.settings["VODSYNC_ENDPOINT"] = listening[1]
        self.emulator = httpx.Client(base_url=f"{listening[1]}/emulator", timeout=60, trust_env=False)

    def run(self, *arguments: str, **options: Any) -> Any:
        """One command, from start to end, with this installation's settings."""
        return run(*arguments, folder=self.folder, environment=self.environment, **options)

    def wait_until_ready(self, *, within: float = 20) -> None:
        eventually(
            lambda: self._ready(), within=within, missing=lambda: f"200 from {self.url}/readyz; logs:\n{self.logs()[-3000:]}"
        )

    def notify(self, body: bytes | dict[str, Any], **how: Any) -> httpx.Response:
        """Send one signed notification as VOD would."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = how.pop("path", "/callbacks")
        return self.http.post(path, content=content, headers=signed(content, url=self.callback_url, **how))

    def wait_until_synced(self, *, within: float = 30) -> None:
        """Until the emulator has told everything, and each medium that is due was asked for."""
        eventually(
            lambda: not self.emulator.get("/deliveries").json()["pending"],
            within=within,
            missing=lambda: f"deliveries: {self.emulator.get('/deliveries').json()}",
        )
        unasked = "SELECT count(*) FROM vod_sync_request WHERE waits = 0"
        eventually(lambda: not self.database.value(unasked), within=within, missing=self._what_is_due)

    def calls(self) -> dict[str, Any]:
        """The emulator's counters of BatchGetMediaInfos."""
        counters: dict[str, Any] = self.emulator.get("/calls").json()["BatchGetMediaInfos"]
        return counters

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """Stop what still runs, and search the logs for what must not stand there."""
        for process in self.processes.values():
            process.terminate()
        codes = {name: process.wait(within=30) for name, process in self.processes.items()}
        self.http.close()
        if hasattr(self, "emulator"):
            self.emulator.close()
        self.database.close()
        logs = self.logs()
        secret = _SECRET.search(logs)
        assert secret is None, f"a log holds a secret: …{logs[max(0, secret.start() - 300) : secret.end() + 40]}…"
        assert "Traceback" not in logs, f"a log holds a traceback:\n{logs[max(0, logs.index('Traceback') - 1500) :][:5000]}"
        crashed = {name: code for name, code in codes.items() if code > 0}
        assert not crashed, f"roles ended with an error: {crashed}\n{logs[-3000:]}"

    def _ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _what_is_due(self) -> str:
        due = self.database.rows("SELECT * FROM vod_sync_request")
        return f"{len(due)} requests are still there, for instance {due[0] if due else None}; logs:\n{self.logs()[-3000:]}"


@contextmanager
def installed(pair: Pair, folder: Path, *, redis_database: int = REDIS_DATABASE, **settings: str) -> Iterator[Installation]:
    """An installation with a migrated database and an empty broker; no role runs yet."""
    with ExitStack() as stack:
        database_url = stack.enter_context(_database(pair.database, folder))
        broker_url = stack.enter_context(_broker(pair.broker, redis_database))
        installation = Installation(folder, database_url=database_url, broker_url=broker_url, **settings)
        stack.callback(installation.close)
        migrated = installation.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        yield installation


@contextmanager
def _database(name: str | None, folder: Path) -> Iterator[str]:
    if name is None:
        yield f"sqlite:///{folder / 'vodsync.db'}"
        return
    made = own_database(name)
    url = sa.make_url(next(made))
    try:
        with _own_user(name, url) as user:
            yield url.set(username=user, password=DATABASE_PASSWORD).render_as_string(hide_password=False)
    finally:
        next(made, None)


@contextmanager
def _own_user(name: str, url: sa.URL) -> Iterator[str]:
    """A user who may do everything in this database and nothing elsewhere, so that a password is there to be kept secret."""
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
    """An empty broker that no other test process uses meanwhile: the names of our queues are fixed."""
    if name is None:
        yield None
        return
    url = require(name)
    own = _own_virtual_host(url) if name == "rabbitmq" else urlsplit(url)._replace(path=f"/{redis_database}").geturl()
    with _alone(own or name):
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
    """The URL of one at RabbitMQ that only this process uses; None where we may not make any, and all take turns at the same."""
    program = shutil.which("rabbitmqctl")
    if program is None:
        return None
    parts = urlsplit(url)
    name = f"vodsync-test-{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
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
def _alone(name: str) -> Iterator[None]:
    """Waits until no other process holds `name`; whoever holds it may take it again."""
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
