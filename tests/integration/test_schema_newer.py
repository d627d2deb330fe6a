"""This release on the schema of the next one: it runs, says so, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tests.builders import notify
from worker import runtime
from worker.cli.application import app
from worker.cli.checks.services import check_database, check_schema
from worker.settings import Settings
from worker.store import Store, schema

NEWER = f"schema 0042 is newer than this release needs ({schema.REVISION})"


@pytest.fixture
def installation(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[runtime.Runtime]:
    """An installation whose database was migrated by a newer release."""
    schema.upgrade(empty_url)
    installation = runtime.Runtime(Settings(database_url=SecretStr(empty_url)))
    with installation.store.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0042'"))
        connection.execute(sa.text("ALTER TABLE vod_notification ADD COLUMN future VARCHAR(8)"))
    monkeypatch.setattr(runtime, "_current", installation)
    yield installation
    installation.store.close()


def vodsync(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_migrate_changes_nothing_and_says_that_the_schema_is_newer(installation: runtime.Runtime) -> None:
    applied, plan = vodsync("migrate", "up"), vodsync("migrate", "plan")

    assert (applied.exit_code, applied.stdout, applied.stderr) == (0, "", f"{NEWER}; running on it\n")
    assert (plan.exit_code, plan.stdout, plan.stderr) == (0, "", f"nothing to apply: {NEWER}; running on it\n")
    assert schema.check(installation.store) == "0042"


def test_migrate_status_fails_because_the_schema_is_not_the_expected_one(installation: runtime.Runtime) -> None:
    status, as_json = vodsync("migrate", "status"), vodsync("migrate", "status", "--json")

    assert (status.exit_code, as_json.exit_code) == (1, 1)
    assert status.stdout == f"schema revision 0042, needed {schema.REVISION}, 0 to apply\n"
    assert status.stderr == f"{NEWER}; running on it\n"
    assert json.loads(as_json.stdout) == {"revision": "0042", "expected": schema.REVISION, "pending": []}


def test_roles_and_the_doctor_accept_it(installation: runtime.Runtime) -> None:
    with capture_logs() as logged:
        is_ready = installation.require_schema(waiting=False)
    notify(installation.store, "a")

    assert is_ready
    assert [line["event"] for line in logged] == ["schema is newer than this release needs; running on it"]
    assert check_schema(installation) == f"{NEWER}; running on it"
    assert check_database(installation).endswith("reachable and writable")


def test_a_migration_that_a_newer_release_finished_meanwhile_is_left_as_it_is(
    installation: runtime.Runtime, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What this process read before it had the lock.
    monkeypatch.setattr(schema, "current", lambda _store: "0001")

    schema.upgrade(empty_url)

    store = Store.open(empty_url)
    with store.reading() as connection:
        assert connection.execute(sa.text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalar() == "0042"
    store.close()
