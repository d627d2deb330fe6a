"""compose.yaml is valid, and its commands and environments work unchanged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from tests.conftest import own_database, require
from tests.system.processes import free_port

ROOT = Path(__file__).parents[2]

#: The settings that an operator writes into .env.
DOTENV = {
    "POSTGRES_PASSWORD": "Pg5ecret",
    "RABBITMQ_PASSWORD": "Mq5ecret",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "demoKeyId",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "demoSecret",
    "VODSYNC_CALLBACK_URL": "https://hooks.example.org/callbacks",
    "VODSYNC_CALLBACK_KEYS": "Compose1Key",
}


def interpolate(value: Any, variables: dict[str, str]) -> Any:
    """Replace Compose's ${NAME}, ${NAME:-default} and ${NAME:?message} in every string."""
    if isinstance(value, dict):
        return {name: interpolate(inner, variables) for name, inner in value.items()}
    if isinstance(value, list):
        return [interpolate(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, operator, rest = match.group(1), match.group(2), match.group(3)
        if variables.get(name):
            return variables[name]
        if operator == ":?":
            raise KeyError(f"{name}: {rest}")
        return rest or ""

    return re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", replace, value)


@pytest.fixture
def services() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services: dict[str, Any] = interpolate(document, DOTENV)["services"]
    return services


def test_compose_file_follows_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml")]

    validated = subprocess.run(command, capture_output=True, text=True, check=False)

    assert validated.returncode == 0, validated.stdout


def test_compose_file_has_no_secret_and_names_the_settings_to_set() -> None:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())

    for name in ("POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "VODSYNC_CALLBACK_URL", "VODSYNC_CALLBACK_KEYS"):
        with pytest.raises(KeyError, match=r"set it in \.env"):
            interpolate(document, {key: value for key, value in DOTENV.items() if key != name})


def test_every_role_waits_for_migrate_and_workers_can_be_scaled(services: dict[str, Any]) -> None:
    for role in ("receiver", "worker", "beat"):
        assert services[role]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert "container_name" not in services["worker"]
    assert "ports" not in services["worker"]


@pytest.fixture
def database() -> Iterator[str]:
    yield from own_database("postgresql")


def command_of(service: dict[str, Any], port: int) -> list[str]:
    entrypoint = service.get("entrypoint", ["vodsync"])
    programs = {"vodsync": ["-m", "worker"], "celery": ["-m", "celery"]}
    words = [str(port) if word == "8080" else word for word in service["command"]]
    return [sys.executable, *programs[entrypoint[0]], *words]


def environment_of(service: dict[str, Any], database: str, broker: str) -> dict[str, str]:
    """Return the service's environment with the servers of this machine."""
    declared = dict(service["environment"])
    assert declared["VODSYNC_DATABASE_URL"] == "postgresql://vodsync:Pg5ecret@postgres:5432/vodsync"
    assert declared["VODSYNC_BROKER_URL"] == "amqp://vodsync:Mq5ecret@rabbitmq:5672//"
    base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return base | declared | {"VODSYNC_DATABASE_URL": database, "VODSYNC_BROKER_URL": broker, "PYTHONPATH": str(ROOT)}


def wait_for(url: str, deadline: float) -> int:
    while True:
        try:
            return int(urllib.request.urlopen(url, timeout=10).status)
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_services_run_together_and_are_healthy(services: dict[str, Any], database: str, tmp_path: Path) -> None:
    broker, port = require("rabbitmq"), free_port()
    migrate = services["migrate"]
    subprocess.run(command_of(migrate, port), env=environment_of(migrate, database, broker), cwd=tmp_path, check=True, timeout=180)

    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for role in ("receiver", "worker", "beat"):
            environment = environment_of(services[role], database, broker)
            with (tmp_path / f"{role}.log").open("wb") as log:
                command = command_of(services[role], port)
                running[role] = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
        assert wait_for(f"http://127.0.0.1:{port}/readyz", time.monotonic() + 120) == 200
        healthy = _health_of_worker(services["worker"], environment_of(services["worker"], database, broker), tmp_path)
        logs = {role: (tmp_path / f"{role}.log").read_text() for role in running}
        assert healthy, logs
        assert {role: process.poll() for role, process in running.items()} == dict.fromkeys(running), logs
        assert _workers(database) == 1
        assert not any(secret in text for text in logs.values() for secret in ("demoSecret", "Compose1Key", "Traceback"))
    finally:
        for process in running.values():
            process.terminate()
        codes = {role: process.wait(40) for role, process in running.items()}
    assert codes["receiver"] == 0
    assert codes["worker"] == 0


def _health_of_worker(worker: dict[str, Any], environment: dict[str, str], folder: Path) -> bool:
    """Return whether the health check succeeds within its start period and a few intervals."""
    _, *words = worker["healthcheck"]["test"]
    assert words[0] == "vodsync"
    for _ in range(20):
        checked = subprocess.run(
            [sys.executable, "-m", "worker", *words[1:]], env=environment, cwd=folder, capture_output=True, check=False
        )
        if checked.returncode == 0:
            return True
        time.sleep(1)
    return False


def _workers(database: str) -> int:
    engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM vod_worker")).scalar_one())
    finally:
        engine.dispose()
