"""Fixtures that tests share: real databases and brokers, and an environment without vodsync's settings."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from worker import runtime
from worker.store import Store, schema, tables

# A runner that was started by `nohup` ignores this signal, and so would every process that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A busy machine is not a reason to fail a property. `make fuzz` selects the second profile.
settings.register_profile("ordinary", deadline=None)
settings.register_profile(
    "fuzz", deadline=None, max_examples=3_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("ordinary")

#: The addresses of the servers. VODSYNC_TEST_<NAME>_URL changes one. Tests use the database in a URL only to create their own.
SERVICES = {
    "postgresql": "postgresql://root@127.0.0.1:5432/postgres",
    "mariadb": "mariadb://root@127.0.0.1:3306/mysql",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
    "redis": "redis://127.0.0.1:6379/15",
}


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """With several processes (pytest -n), tests that share an installation or a database run in the same process."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        service = next((word for word in (*SERVICES, "sqlite") if word in name), "")
        return f"integration {service}" if "/integration/" in file and service else f"{file} {service}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def service_url(name: str) -> str:
    return os.environ.get(f"VODSYNC_TEST_{name.upper()}_URL", SERVICES[name])


def require(name: str) -> str:
    """Return the URL of a running server. Without it the test is skipped, or fails if VODSYNC_TEST_REQUIRE_SERVICES is set."""
    url = service_url(name)
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=2).close()
    except OSError:
        skip_or_fail(f"{name} does not answer at {parts.hostname}:{parts.port}")
    return url


def require_program(name: str) -> str:
    """Return the path of a server's program, for tests that break a server of their own. Skips or fails as `require` does."""
    # Debian has servers in /usr/sbin, which is not in the PATH of every user.
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if path is None:
        skip_or_fail(f"there is no program {name}")
    return path


def skip_or_fail(reason: str) -> NoReturn:
    if os.environ.get("VODSYNC_TEST_REQUIRE_SERVICES"):
        pytest.fail(f"{reason}, and VODSYNC_TEST_REQUIRE_SERVICES is set")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _isolated_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Remove vodsync's settings from the environment, and the runtime of the previous test."""
    for name in list(os.environ):
        if name.startswith(("VODSYNC_", "ALIBABA_CLOUD_")) and not name.startswith("VODSYNC_TEST_"):
            monkeypatch.delenv(name)
    # Otherwise the vendor's credential chain calls a metadata server that exists only inside the cloud.
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setattr(runtime, "_current", None)


@pytest.fixture(scope="session", params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Create an empty database of each of the three kinds, and drop it at the end."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('database') / 'vodsync.db'}"
    else:
        yield from own_database(request.param)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each of the three kinds, for one test."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        yield from own_database(request.param)


def own_database(name: str) -> Iterator[str]:
    """Create a database with a random name on the server `name`, and drop it at the end."""
    server = require(name)
    driver = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}[name]
    url = sa.make_url(server).set(drivername=driver)
    own = f"vodsync_test_{secrets.token_hex(6)}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {own}"))
        yield sa.make_url(server).set(database=own).render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {own}" + (" WITH (FORCE)" if name == "postgresql" else "")))
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def migrated_url(database_url: str) -> str:
    schema.upgrade(database_url)
    return database_url


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    """An empty, migrated store on each of the three databases."""
    opened = Store.open(migrated_url)
    with opened.engine.begin() as connection:
        for table in tables.metadata.sorted_tables:
            connection.execute(table.delete())
    yield opened
    opened.close()
