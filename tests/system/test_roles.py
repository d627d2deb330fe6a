"""The roles as an operator starts them: `up`, refused settings and databases, and other servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.system.installation import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    CALLBACK_KEY,
    DATABASE_PASSWORD,
    PAIRS,
    Installation,
    Pair,
    analysed,
    installed,
)
from tests.system.processes import (
    Process,
    alive,
    clean_environment,
    command_line,
    descendants,
    eventually,
    free_port,
    run,
)

DONE = 0
FAILED = 1
USAGE = 2
CONFIGURATION = 3
UNREACHABLE = 4

FOUR_SETTINGS = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    "VODSYNC_CALLBACK_URL": "http://127.0.0.1:8080/callbacks",
    "VODSYNC_CALLBACK_KEYS": CALLBACK_KEY,
}


def assert_one_sentence(output: str, *names: str) -> None:
    """Check that the output is one line that contains these names."""
    assert output.startswith("vodsync: "), output
    assert output.count("\n") == 1, output
    assert "Traceback" not in output
    for name in names:
        assert name in output


# up


@pytest.fixture
def up(tmp_path: Path) -> Iterator[tuple[Installation, Process]]:
    """`vodsync up` in an empty folder with the four settings, the URL of the emulator and a free port."""
    database_url = f"sqlite:///{tmp_path / 'vodsync.db'}"
    installation = Installation(tmp_path, database_url=database_url, broker_url=None)
    del installation.settings["VODSYNC_DATABASE_URL"]
    installation.start_emulator()
    process = installation.start("up", "up", command=(str(Path(sys.executable).with_name("vodsync")),))
    installation.wait_until_ready()
    yield installation, process
    installation.close()


def role_pid(process: Process, verb: str) -> int:
    """Return the process id of one of the roles that `up` started, or 0."""
    pids = [pid for pid in descendants(process.pid) if f" {verb} " in command_line(pid)]
    return pids[0] if pids else 0


def test_up_with_four_settings_is_a_working_installation(up: tuple[Installation, Process]) -> None:
    installation, process = up
    assert installation.settings.keys() - {"VODSYNC_ENDPOINT", "VODSYNC_PORT"} == FOUR_SETTINGS.keys()

    installation.emulator.post("/uploads", json={"count": 5})
    installation.wait_until_synced()
    role_pids = descendants(process.pid) | {process.pid}
    exit_code = process.stop()

    assert installation.database.value("SELECT count(*) FROM vod_media WHERE state = 'ok' AND status = 'Normal'") == 5
    assert exit_code == DONE
    assert len(role_pids) >= 3
    assert [command_line(pid) for pid in role_pids if alive(pid)] == []


def test_up_restarts_a_killed_role(up: tuple[Installation, Process]) -> None:
    installation, process = up
    killed = eventually(lambda: role_pid(process, "work"), within=5, missing="a process `work` below `up`")
    eventually(lambda: installation.http.get("/statusz").json()["workers"], within=10, missing="the worker's heartbeat")

    os.kill(killed, signal.SIGKILL)
    new_pids = eventually(lambda: {role_pid(process, "work")} - {0, killed}, within=10, missing="a new worker")
    installation.emulator.post("/uploads", json={"count": 3})
    installation.wait_until_synced()

    assert all(map(alive, new_pids))
    assert installation.database.count("vod_media") == 3
    assert "killed by SIGKILL; the system may have had too little memory" in process.log


def test_up_continues_while_a_restarted_role_finds_no_credentials(tmp_path: Path) -> None:
    with CredentialsServer() as credentials, installed(Pair(None, None), tmp_path) as installation:
        installation.start_emulator()
        own_keys = {name: "" for name in installation.settings if name.startswith("ALIBABA_CLOUD_")}
        process = installation.start("up", "up", ALIBABA_CLOUD_CREDENTIALS_URI=credentials.url, **own_keys)
        installation.wait_until_ready()
        eventually(lambda: "worker started" in process.log, within=15, missing="a worker")

        credentials.is_down = True
        os.kill(role_pid(process, "work"), signal.SIGKILL)
        eventually(lambda: '"code": 3' in process.log, within=15, missing="a worker that found no credentials")
        response = installation.notify(analysed("meanwhile"))
        credentials.is_down = False
        eventually(
            lambda: process.log.count("worker started") == 2, within=30, missing=lambda: f"a worker that starts; {process.log}"
        )

        assert response.status_code == 200
        assert process.running


class CredentialsServer:
    """A server for ALIBABA_CLOUD_CREDENTIALS_URI. It answers 503 while `is_down`."""

    def __init__(self) -> None:
        self.is_down = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                credentials = {
                    "Code": "Success",
                    "AccessKeyId": ACCESS_KEY_ID,
                    "AccessKeySecret": ACCESS_KEY_SECRET,
                    "SecurityToken": "Sys7emTestSecurityToken",
                    "Expiration": "2099-01-01T00:00:00Z",
                }
                self.send_response(503 if server.is_down else 200)
                self.end_headers()
                self.wfile.write(b"" if server.is_down else json.dumps(credentials).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/"

    def __enter__(self) -> CredentialsServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def test_port_in_use_is_reported_with_its_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = FOUR_SETTINGS | {"VODSYNC_PORT": str(listener.getsockname()[1])}

        refused = run("up", folder=tmp_path, environment=clean_environment(settings, tmp_path))

    assert refused.returncode == CONFIGURATION
    assert "VODSYNC_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_second_signal_stops_up_at_once(up: tuple[Installation, Process]) -> None:
    _, process = up
    role_pids = descendants(process.pid)

    process.terminate()
    process.terminate()
    process.wait(within=5)

    eventually(lambda: not any(map(alive, role_pids)), within=5, missing="the end of every role")


def test_killed_up_leaves_no_process_and_the_next_up_works(up: tuple[Installation, Process]) -> None:
    installation, process = up
    role_pids = descendants(process.pid)

    process.kill()
    again = installation.start("up-again", "up")
    installation.wait_until_ready()
    installation.emulator.post("/uploads", json={"count": 3})
    installation.wait_until_synced()

    eventually(lambda: not any(map(alive, role_pids)), within=10, missing="the end of the roles of the killed `up`")
    assert installation.database.count("vod_media") == 3
    assert again.stop() == DONE


# Refused settings and databases


WITHOUT_CREDENTIALS = ({"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}, "ALIBABA_CLOUD_ACCESS_KEY_ID")
WITHOUT_SECRET = ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}, "ALIBABA_CLOUD_ACCESS_KEY_SECRET")
WITHOUT_KEYS = ({"VODSYNC_CALLBACK_KEYS": ""}, "VODSYNC_CALLBACK_KEYS")
WITHOUT_URL = ({"VODSYNC_CALLBACK_URL": ""}, "VODSYNC_CALLBACK_URL")
UNKNOWN_NAME = ({"VODSYNC_LINGERMS": "250"}, "VODSYNC_LINGERMS")
BAD_NUMBER = ({"VODSYNC_LEASE": "soon"}, "VODSYNC_LEASE")
BAD_DATABASE = ({"VODSYNC_DATABASE_URL": "oracle://host/name"}, "VODSYNC_DATABASE_URL")
BAD_BROKER = ({"VODSYNC_BROKER_URL": "kafka://host"}, "VODSYNC_BROKER_URL")
MISSING_FILE = ({"VODSYNC_CALLBACK_KEYS_FILE": "/nonexistent/key"}, "VODSYNC_CALLBACK_KEYS_FILE")


@pytest.mark.parametrize(
    ("verb", "mistake"),
    [
        *(("up", mistake) for mistake in (WITHOUT_CREDENTIALS, WITHOUT_KEYS, UNKNOWN_NAME, BAD_BROKER)),
        *(("serve", mistake) for mistake in (WITHOUT_KEYS, WITHOUT_URL, BAD_NUMBER, MISSING_FILE)),
        *(("work", mistake) for mistake in (WITHOUT_CREDENTIALS, WITHOUT_SECRET, BAD_NUMBER, BAD_DATABASE)),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value[0])),
)
def test_role_refuses_invalid_setting_and_names_it(
    migrated: Path, tmp_path: Path, verb: str, mistake: tuple[dict[str, str], str]
) -> None:
    settings, name = mistake
    base = FOUR_SETTINGS if "VODSYNC_CALLBACK_KEYS_FILE" not in settings else FOUR_SETTINGS | {"VODSYNC_CALLBACK_KEYS": ""}
    chosen = {"VODSYNC_DATABASE_URL": f"sqlite:///{migrated}", "VODSYNC_PORT": str(free_port())} | base | settings

    refused = run(verb, folder=tmp_path, environment=clean_environment(chosen, tmp_path))

    assert refused.returncode == CONFIGURATION, refused.stderr
    assert_one_sentence(refused.stderr, name)
    assert refused.stdout == ""


@pytest.mark.parametrize("verb", ["serve", "work", "status", "sync x"])
def test_stale_schema_is_refused_with_the_command_to_run(tmp_path: Path, verb: str) -> None:
    refused = run(*verb.split(), folder=tmp_path, environment=clean_environment(FOUR_SETTINGS, tmp_path))

    assert refused.returncode == CONFIGURATION
    assert_one_sentence(refused.stderr, "vodsync migrate")


@pytest.mark.parametrize(
    "command",
    [("celery", "-A", "worker.queue", "worker"), ("uvicorn", "worker.web:app", "--port", "0")],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("mistake", [UNKNOWN_NAME, None], ids=["setting", "schema"])
def test_celery_and_uvicorn_commands_refuse_the_same(
    tmp_path: Path, command: tuple[str, ...], mistake: tuple[dict[str, str], str] | None
) -> None:
    settings, name = mistake or ({}, "vodsync migrate")
    environment = clean_environment(FOUR_SETTINGS | settings, tmp_path)

    process = Process([sys.executable, "-m", *command], folder=tmp_path, environment=environment, log=tmp_path / "log")

    assert process.wait(within=15) == CONFIGURATION, process.log
    assert f"vodsync: {name}" in process.log or name in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    ("database", "verb"),
    [
        *(("postgresql", verb) for verb in ("migrate", "status", "show x", "sync x", "failures list")),
        *(("mariadb", verb) for verb in ("migrate", "sync x")),
        *(("sqlite", verb) for verb in ("serve", "work", "up", "migrate")),
    ],
)
def test_unreachable_database_ends_with_exit_code_4(tmp_path: Path, database: str, verb: str) -> None:
    url = f"{database}://vodsync:{DATABASE_PASSWORD}@127.0.0.1:{free_port()}/vodsync"
    if database == "sqlite":
        (tmp_path / "vodsync.db").mkdir()
        url = f"sqlite:///{tmp_path / 'vodsync.db'}"
    environment = clean_environment(FOUR_SETTINGS | {"VODSYNC_DATABASE_URL": url}, tmp_path)

    refused = run(*verb.split(), folder=tmp_path, environment=environment)

    assert refused.returncode == UNREACHABLE, refused.stderr
    assert_one_sentence(refused.stderr)
    assert DATABASE_PASSWORD not in refused.stderr


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database."""
    folder = tmp_path_factory.mktemp("migrated")
    assert run("migrate", folder=folder, environment=clean_environment({}, folder)).returncode == DONE
    return folder / "vodsync.db"


# Other servers


def test_celery_and_uvicorn_commands_are_a_working_installation(tmp_path: Path) -> None:
    with installed(PAIRS["postgresql-rabbitmq"], tmp_path) as installation:
        installation.start_emulator()
        installation.start("worker", "-A", "worker.queue", "worker", "--beat", command=(sys.executable, "-m", "celery"))
        installation.start(
            "receiver", "worker.web:app", "--port", str(installation.port), command=(sys.executable, "-m", "uvicorn")
        )
        installation.wait_until_ready()

        installation.emulator.post("/uploads", json={"count": 10})
        installation.wait_until_synced()

        assert installation.database.value("SELECT count(*) FROM vod_media WHERE status = 'Normal'") == 10
        assert installation.processes["worker"].stop() == DONE
        # Uvicorn's own command ends by the signal that stopped it.
        assert installation.processes["receiver"].stop() in (DONE, -signal.SIGTERM)


def test_several_receiver_processes_share_the_port(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as installation:
        receiver = installation.start("receiver", "serve", "--workers", "2")
        installation.wait_until_ready()
        children = descendants(receiver.pid)

        responses = [installation.notify(analysed(f"media-{number}")) for number in range(50)]
        exit_code = receiver.stop()

        assert {response.status_code for response in responses} == {200}
        assert installation.database.count("vod_notification") == 50
        assert len([pid for pid in children if "tracker" not in command_line(pid)]) >= 2
        assert exit_code == DONE
        eventually(lambda: not any(map(alive, children)), within=5, missing="the end of every process")
