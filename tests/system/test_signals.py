"""What signals do to real processes, and what is refused before a role starts because it could never work."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.system.installation import Installation, Pair, installed
from tests.system.processes import VODSYNC, Process, alive, clean_environment, descendants, eventually, run

DONE = 0
CONFIGURATION = 3

TIMEOUT = 240  # seconds


def send_user_signals(pids: set[int]) -> None:
    """Send the signals that must have no effect."""
    for pid in pids:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(pid, number)


@pytest.mark.parametrize(
    ("arguments", "command", "started"),
    [
        (("serve",), VODSYNC, "receiver started"),
        (("serve", "--workers", "2"), VODSYNC, "receiver started"),
        (("work", "--beat"), VODSYNC, "worker started"),
        (("emulate", "--port", "0"), VODSYNC, "listening on"),
        (("-A", "worker.queue", "worker"), (sys.executable, "-m", "celery"), "worker started"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else None,
)
def test_hangup_stops_a_role_in_order_and_user_signals_do_nothing(
    tmp_path: Path, arguments: tuple[str, ...], command: tuple[str, ...], started: str
) -> None:
    with installed(Pair(None, None), tmp_path) as installation:
        role = installation.start("role", *arguments, command=command)
        count = 2 if "--workers" in arguments else 1
        eventually(lambda: role.log.count(started) == count, within=20, missing=lambda: f"the start; {role.log}")
        pids = descendants(role.pid) | {role.pid}

        send_user_signals(pids)
        role.signal(signal.SIGHUP)

        # A process that one of the first signals had ended would have another exit code.
        assert role.wait(within=20) == DONE
        assert "Traceback" not in role.log
        eventually(lambda: not any(map(alive, pids)), within=5, missing="the end of every process")


def test_a_worker_that_a_hangup_stops_finishes_its_batch_and_keeps_no_claim(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as installation:
        installation.start_emulator("--media", "3", "--latency", "2")
        worker = installation.start("worker", "work")
        media_ids = installation.emulator.get("/media").json()["media_ids"]
        installation.run("sync", *media_ids)
        eventually(lambda: installation.calls()["calls"], within=20, missing="a slow call")

        worker.signal(signal.SIGHUP)
        code = worker.wait(within=20)

        assert code == DONE
        assert installation.database.value("SELECT count(*) FROM vod_sync_request WHERE claim IS NOT NULL") == 0
        assert installation.database.count("vod_worker") == 0


def test_the_end_of_its_terminal_ends_all_roles_of_up(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as installation:
        terminal, process = in_a_terminal(installation, "up")
        installation.wait_until_ready()
        eventually(lambda: installation.database.count("vod_worker"), within=20, missing="a worker")
        pids = descendants(process.pid)
        assert len(pids) >= 2

        send_user_signals(pids | {process.pid})
        os.close(terminal)

        assert process.wait(TIMEOUT) == DONE
        assert {alive(pid) for pid in pids} == {False}
        assert installation.database.count("vod_worker") == 0


def in_a_terminal(installation: Installation, *arguments: str) -> tuple[int, subprocess.Popen[bytes]]:
    """Start a command in the foreground of a new terminal. Return the terminal's other side."""
    terminal, side = os.openpty()

    def control_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [*VODSYNC, *arguments],
        cwd=installation.folder,
        env=installation.environment,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        preexec_fn=control_terminal,
    )
    os.close(side)
    return terminal, process


# What can never work


@pytest.fixture
def postgresql(tmp_path: Path) -> Installation:
    """The settings of an installation whose database cannot be reached: the folders are checked before that."""
    return Installation(tmp_path, database_url="postgresql://vodsync@127.0.0.1:9/vodsync", broker_url=None)


@pytest.mark.parametrize("verb", ["up", "serve", "work"])
@pytest.mark.parametrize("setting", ["VODSYNC_BROKER_FOLDER", "VODSYNC_SPOOL"])
def test_a_file_that_can_never_be_written_is_refused_before_the_start(postgresql: Installation, verb: str, setting: str) -> None:
    if (verb, setting) == ("work", "VODSYNC_SPOOL"):
        pytest.skip("a worker has no spool")
    unusable = {"VODSYNC_BROKER_FOLDER": "/dev/null/broker", "VODSYNC_SPOOL": "/nonexistent/spool.db"}[setting]

    environment = clean_environment(postgresql.settings | {setting: unusable}, postgresql.folder)
    refused = run(verb, folder=postgresql.folder, environment=environment)

    assert refused.returncode == CONFIGURATION, refused.stderr
    assert refused.stderr.startswith("vodsync: ")
    assert refused.stderr.count("\n") == 1
    assert setting in refused.stderr


@pytest.mark.parametrize("command", [("celery", "-A", "worker.queue", "worker"), ("uvicorn", "worker.web:app", "--port", "0")])
def test_other_servers_refuse_the_same(postgresql: Installation, command: tuple[str, ...]) -> None:
    environment = postgresql.environment | {"VODSYNC_BROKER_FOLDER": "/dev/null/broker"}
    log = postgresql.folder / "log"

    process = Process([sys.executable, "-m", *command], folder=postgresql.folder, environment=environment, log=log)

    assert process.wait(within=20) == CONFIGURATION
    assert "VODSYNC_BROKER_FOLDER" in process.log
    assert "Traceback" not in process.log


def test_up_refuses_a_folder_that_its_user_cannot_write(postgresql: Installation) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed")
    folder = postgresql.folder / "read-only"
    folder.mkdir(mode=0o555)
    # The rights of root include writing everywhere.
    restricted = [setpriv, "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []

    refused = subprocess.run(
        [*restricted, *VODSYNC, "up"], cwd=folder, env=postgresql.environment, capture_output=True, text=True, timeout=TIMEOUT
    )

    assert refused.returncode == CONFIGURATION, refused.stderr
    assert refused.stderr.count("\n") == 1
    assert all(part in refused.stderr for part in ("VODSYNC_BROKER_FOLDER", "VODSYNC_SPOOL", "Permission denied"))


def test_a_command_whose_wake_up_cannot_be_sent_is_still_done(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path, VODSYNC_BROKER_FOLDER="/dev/null/broker") as installation:
        requested = installation.run("sync", "a")
        checked = installation.run("doctor", "--json")

        assert requested.returncode == DONE
        assert "no wake-up was sent" in requested.stderr
        assert installation.database.count("vod_sync_request") == 1
        verdicts = {check["part"]: check for check in json.loads(checked.stdout)}
        assert verdicts["broker"]["verdict"] == "bad"
        assert "VODSYNC_BROKER_FOLDER" in verdicts["broker"]["says"]


def test_the_folder_of_the_embedded_broker_can_be_set(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path, VODSYNC_BROKER_FOLDER=str(tmp_path / "elsewhere" / "broker")) as installation:
        installation.run("sync", "a")

        assert (tmp_path / "elsewhere" / "broker" / "messages").is_dir()
        assert not (tmp_path / "vodsync-broker").exists()
