"""What tests share: real databases and brokers where they run, and our own settings kept out."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from worker import runtime
from worker.store import Store, schema, tables

# A busy machine is not a reason to fail a property. `make fuzz` selects the second profile.
settings.register_profile("ordinary", deadline=None)
settings.register_profile(
    "fuzz", deadline=None, max_examples=3_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("ordinary")

#: Where the servers are; each can be moved by VODSYNC_TEST_<NAME>_URL. To the database in a URL we connect only to make our own.
SERVICES = {
    "postgresql": "postgresql://root@127.0.0.1:5432/postgres",
    "mariadb": "mariadb://root@127.0.0.1:3306/mysql",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
    "redis": "redis://127.0.0.1:6379/15",
}


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Where several processes share the tests (pytest -n), those that share an installation or a database stay in one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        on = next((word for word in (*SERVICES, "sqlite") if word in name), "")
        return f"integration {on}" if "/integration/" in file and on else f"{file} {on}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing:
    return Sharing(config, log)


def service_url(name: str) -> str:
    return os.environ.get(f"VODSYNC_TEST_{name.upper()}_URL", SERVICES[name])


def require(name: str) -> str:
    """The URL of a running server. Where it does not run the test is skipped, or fails if VODSYNC_TEST_REQUIRE_SERVICES is set."""
    url = service_url(name)
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=2).close()
    except OSError:
        _lacking(f"{name} does not answer at {parts.hostname}:{parts.port}")
    return url


def require_program(name: str) -> str:
    """Where a server's program is, for tests that break a server of their own; skips or fails as `require` does."""
    found = shutil.which(name)
    if found is None:
        _lacking(f"there is no program {name}")
    return found


def _lacking(sentence: str) -> NoReturn:
    if os.environ.get("VODSYNC_TEST_REQUIRE_SERVICES"):
        pytest.fail(f"{sentence}, and VODSYNC_TEST_REQUIRE_SERVICES is set")
    pytest.skip(sentence)


@pytest.fixture(autouse=True)
def _our_own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """No setting of the person who runs the tests reaches them, and no test's runtime reaches the next."""
    for name in list(os.environ):
        if name.startswith(("VODSYNC_", "ALIBABA_CLOUD_")) and not name.startswith("VODSYNC_TEST_"):
            monkeypatch.delenv(name)
    # Without this the vendor's credential chain asks a metadata server that exists only inside the cloud.
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setattr(runtime, "_current", None)


@pytest.fixture(scope="session", params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty database of our own on each of the three, dropped at the end."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('database') / 'vodsync.db'}"
    else:
        yield from own_database(request.param)


def own_database(name: str) -> Iterator[str]:
    """A database with a name of its own on the server `name`."""
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
