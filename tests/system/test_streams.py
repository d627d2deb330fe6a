"""Every verb with streams that are closed, full, or not read: no traceback, the right exit code, and work that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.fork_server import BROKEN_PIPE, CLOSED
from tests.system.installation import Installation, Pair, analysed, installed
from tests.system.processes import VODSYNC, ForkedProcess, eventually, start_with
from worker.cli.application import VERBS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and /proc")

DONE = 0
FAILED = 1
#: As of a program that SIGPIPE ends, like most that write into `head`.
READER_ENDED = 141

TIMEOUT = 240  # seconds
FULL = "/dev/full"

#: Commands that print something to stdout, and those that print to stderr and end with an error.
PRINTING = [
    "--version",
    "--help",
    "config",
    "config --json",
    "status",
    "status --json",
    "jobs list",
    "jobs list --json",
    "failures list --json",
    "migrate status --json",
    "sync a --dry-run --json",
]
HELP = [f"{verb} --help" for verb in VERBS]
COMPLAINING = {
    "nonsense": 2,
    "show unknown": 1,
    "sync not/an/id": 1,
    "failures retry": 2,
    "backfill --source unknown": 3,
    "jobs show 99": 1,
    "notify x --to http://127.0.0.1:9/": 4,
    "serve --port 1 --host 192.0.2.1": 3,
    "work --smq": 3,
    "emulate --host 192.0.2.1": 1,
}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(Pair(None, None), tmp_path_factory.mktemp("streams")) as running:
        yield running


def ended_with(
    installation: Installation, command: str, *, stdout: str | None = None, stderr: str | None = None
) -> tuple[int, str]:
    """Run a command with one special stream. Return its exit code and what it wrote to the other one."""
    output = installation.folder / "output"
    output.unlink(missing_ok=True)
    streams: dict[str, Path | str] = {"stdout": stdout or output, "stderr": stderr or output}
    process = start_with(*command.split(), folder=installation.folder, environment=installation.environment, **streams)
    return process.wait(TIMEOUT), output.read_text()


@pytest.mark.parametrize("command", PRINTING)
def test_output_that_cannot_be_written_is_an_error_unless_its_reader_has_ended(installation: Installation, command: str) -> None:
    full = ended_with(installation, command, stdout=FULL)
    closed = ended_with(installation, command, stdout=CLOSED)
    unread = ended_with(installation, command, stdout=BROKEN_PIPE)

    assert full == (FAILED, "vodsync: cannot write to stdout: No space left on device; send the output to another place\n")
    assert closed == (FAILED, "vodsync: cannot write to stdout: Bad file descriptor; send the output to another place\n")
    assert unread == (READER_ENDED, "")


@pytest.mark.parametrize("command", ["status", "migrate status --json"])
def test_a_closed_stdout_does_not_lead_into_a_file(installation: Installation, command: str) -> None:
    # A shell closes it before Python starts, so that Python has no object for it.
    process = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *VODSYNC, *command.split()],
        env=installation.environment,
        cwd=installation.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    closed = "vodsync: cannot write to stdout: Bad file descriptor; send the output to another place\n"
    assert (process.returncode, process.stderr) == (FAILED, closed)
    assert (installation.folder / "vodsync.db").read_bytes().startswith(b"SQLite format 3")


def test_the_help_of_a_verb_that_cannot_be_written_is_an_error(installation: Installation) -> None:
    codes = {command: ended_with(installation, command, stdout=FULL)[0] for command in HELP}

    assert codes == dict.fromkeys(HELP, FAILED)


@pytest.mark.parametrize("stderr", [CLOSED, FULL, BROKEN_PIPE])
def test_messages_that_cannot_be_written_change_no_exit_code(installation: Installation, stderr: str) -> None:
    codes = {command: ended_with(installation, command, stderr=stderr)[0] for command in COMPLAINING}
    code, output = ended_with(installation, "status --json", stderr=stderr)

    assert codes == COMPLAINING
    assert (code, output[0], output[-2:]) == (DONE, "{", "}\n")


@pytest.mark.parametrize("stderr", [CLOSED, FULL, BROKEN_PIPE])
def test_roles_work_without_stdout_and_stderr(tmp_path: Path, stderr: str) -> None:
    with installed(Pair(None, None), tmp_path) as running:
        running.start_emulator()
        roles = [
            start_with(*role.split(), folder=tmp_path, environment=running.environment, stdout=CLOSED, stderr=stderr)
            for role in ("serve", "work --beat")
        ]
        running.wait_until_ready()

        running.emulator.post("/uploads", json={"count": 3})
        running.wait_until_synced()

        assert running.database.value("SELECT count(*) FROM vod_media WHERE status = 'Normal'") == 3
        assert [stop(role) for role in roles] == [DONE, DONE]


@pytest.fixture
def unread_pipe() -> Iterator[int]:
    """The writing end of a pipe that is full, and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_receiver_answers_and_stops_while_nobody_reads_its_log(tmp_path: Path, unread_pipe: int, workers: str) -> None:
    with installed(Pair(None, None), tmp_path) as running:
        path = f"/proc/{os.getpid()}/fd/{unread_pipe}"
        receiver = start_with(
            "serve", "--workers", workers, folder=tmp_path, environment=running.environment, stdout=path, stderr=path
        )
        running.wait_until_ready()

        # Each is logged.
        refused = [running.http.post("/elsewhere", content=b"{", headers={"X-VOD-SIGNATURE": "x"}) for _ in range(20)]
        answers = [running.notify(analysed(f"unread-{number}")).status_code for number in range(3)]

        assert {answer.status_code for answer in refused} <= {401, 404}
        assert answers == [200, 200, 200]
        assert stop(receiver) == DONE


def test_all_roles_of_up_work_and_stop_while_nobody_reads_their_log(tmp_path: Path, unread_pipe: int) -> None:
    with installed(Pair(None, None), tmp_path) as running:
        running.start_emulator()
        process = subprocess.Popen([*VODSYNC, "up"], cwd=tmp_path, env=running.environment, stdout=unread_pipe, stderr=unread_pipe)
        running.wait_until_ready()

        running.emulator.post("/uploads", json={"count": 3})
        running.wait_until_synced()
        process.terminate()

        assert process.wait(TIMEOUT) == DONE
        assert running.database.value("SELECT count(*) FROM vod_media WHERE status = 'Normal'") == 3


def test_messages_are_written_when_the_reader_goes_on(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with installed(Pair(None, None), tmp_path) as running, os.fdopen(reader, "rb") as log:
        path = f"/proc/{os.getpid()}/fd/{writer}"
        worker = start_with("work", folder=tmp_path, environment=running.environment, stdout=path, stderr=path)
        eventually(lambda: running.database.count("vod_worker"), within=20, missing="a worker")

        code = stop(worker)
        os.close(writer)
        text = log.read().decode()

    assert code == DONE
    assert "worker started" in text
    assert text.splitlines()[-1].count("worker stopped") == 1


def stop(process: ForkedProcess) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(TIMEOUT)
