"""What a short command imports. Modules that take long to import would make it slow, whatever the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cli.application import VERBS, app, load_verb
from worker.store import schema

#: Runs `vodsync` with the arguments, then prints the names of all imported modules on the last line.
PROGRAM = """
import atexit, json, sys
from worker.cli import main
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), flush=True))
main()
"""

NEVER = ("celery", "kombu", "starlette", "uvicorn", "httpx", "alembic", "rich", "structlog")
SDK = ("alibabacloud_vod20170321", "alibabacloud_tea_openapi", "alibabacloud_credentials", "darabonba")
DATABASE = ("sqlalchemy", "worker.store", "pydantic", "worker.settings", "worker.runtime")
DRIVERS = ("psycopg", "pymysql")


def imported(*arguments: str, **settings: str) -> set[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    ended = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_version_imports_nothing_but_the_package() -> None:
    modules = imported("--version")

    assert {name for name in modules if name.startswith("worker")} == {
        "worker",
        "worker.cli",
        "worker.process_signals",
        "worker.standard_streams",
    }
    assert modules & {"typer", "click", *NEVER, *SDK, *DATABASE, *DRIVERS} == set()


def test_help_imports_no_verb() -> None:
    modules = imported("--help")

    assert "worker.cli.application" in modules
    assert modules & {f"worker.cli.{verb}" for verb in VERBS} == set()
    assert modules & {*NEVER, *SDK, *DATABASE, *DRIVERS} == set()


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json")])
def test_status_imports_neither_broker_nor_web_nor_sdk(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path / 'vodsync.db'}"
    schema.upgrade(url)

    modules = imported(*arguments, VODSYNC_DATABASE_URL=url)

    assert "worker.cli.status" in modules
    assert modules & {*NEVER, *SDK, *DRIVERS, "worker.sync", "worker.queue", "worker.web", "worker.emulator", "worker.vod"} == set()


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_the_first_line_of_each_verb(verb: str) -> None:
    command = load_verb(verb)

    assert (command.help or "").splitlines()[0] == VERBS[verb]


def test_every_verb_has_its_own_module() -> None:
    assert list(app.registered_commands) == []
    assert all((Path(__file__).parents[2] / "worker" / "cli" / f"{verb}.py").is_file() for verb in VERBS)
