"""Start, signal and await real processes, each with a log file and a deadline."""

from __future__ import annotations

import functools
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tests import monotonic_clock

T = TypeVar("T")

ROOT = Path(__file__).parents[2]

VODSYNC = (sys.executable, "-m", "worker")

#: Deadlines are multiplied by this factor, for busy machines. A test that passes does not wait for its deadline.
_DEADLINE_FACTOR = 8


def eventually(condition: Callable[[], T], *, within: float, missing: str | Callable[[], str], pause: float = 0.05) -> T:
    """Return the first true result of `condition`. After the deadline the test fails; the message contains `missing`."""
    deadline = monotonic_clock.seconds() + within * _DEADLINE_FACTOR
    while True:
        result = condition()
        if result:
            return result
        if monotonic_clock.seconds() > deadline:
            description = missing if isinstance(missing, str) else missing()
            raise AssertionError(f"after {within * _DEADLINE_FACTOR:g} s still missing: {description}")
        time.sleep(pause)


def free_port() -> int:
    """Return a free port below the range of outgoing connections, so that none of them takes it before the role listens."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def clean_environment(settings: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return an environment with exactly these settings and no other source of credentials."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("VODSYNC_", "ALIBABA_CLOUD_"))}
    return {**inherited, "HOME": str(home), "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", **settings}


class Process:
    """A process whose output goes to a log file. `stop` sends SIGTERM and waits, `kill` sends SIGKILL."""

    def __init__(self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path) -> None:
        self.log_file = log
        self.command = command
        self._popen: subprocess.Popen[bytes] | ForkedProcess
        if tuple(command[: len(VODSYNC)]) == VODSYNC and sys.platform == "linux":
            self._popen = _fork_server().spawn(command[len(VODSYNC) :], folder=folder, environment=environment, stdout=log)
        else:
            with log.open("ab") as output:
                self._popen = subprocess.Popen(
                    command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
        self.pid = self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            self._popen.send_signal(number)

    def kill(self) -> None:
        if self.running:
            self._popen.kill()
        self._popen.wait()

    def wait(self, *, within: float) -> int:
        """Wait for the end of the process and return its exit code."""
        try:
            return self._popen.wait(within * _DEADLINE_FACTOR)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{' '.join(self.command)} did not end within {within * _DEADLINE_FACTOR:g} s; its log:\n{self.log[-3000:]}"
            ) from None

    def stop(self, *, within: float = 20) -> int:
        self.terminate()
        return self.wait(within=within)


def start_with(
    *arguments: str, folder: Path, environment: Mapping[str, str], stdout: Path | str, stderr: Path | str
) -> ForkedProcess:
    """Start one `vodsync` command with these streams. Only on Linux."""
    return _fork_server().spawn(arguments, folder=folder, environment=environment, stdout=stdout, stderr=stderr)


def run(
    *arguments: str, folder: Path, environment: Mapping[str, str], stdin: str | None = None, within: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run one `vodsync` command and return its output."""
    command, within = [*VODSYNC, *arguments], within * _DEADLINE_FACTOR
    if sys.platform != "linux":
        source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=within, **source)
    with tempfile.TemporaryDirectory() as temporary:
        input_file, out, err = (Path(temporary, name) for name in ("stdin", "stdout", "stderr"))
        input_file.write_text(stdin or "")
        child = _fork_server().spawn(arguments, folder=folder, environment=environment, stdin=input_file, stdout=out, stderr=err)
        try:
            code = child.wait(within)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


class ForkedProcess:
    """A child of the fork server, with the methods of `subprocess.Popen` that we use."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._fork_server = server
        self.pid = pid

    def poll(self) -> int | None:
        return self._fork_server.code(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait and return the exit code. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The client of fork_server.py. Threads may share it."""

    def __init__(self) -> None:
        self._channel, remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with remote:
            command = [sys.executable, "-m", "tests.system.fork_server", str(remote.fileno())]
            self._process = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[remote.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        self._codes: dict[int, int] = {}
        self._lock = threading.Lock()

    def spawn(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        stdout: Path | str,
        stdin: Path | None = None,
        stderr: Path | str | None = None,
    ) -> ForkedProcess:
        """Start `vodsync` with these arguments. Output is appended; without `stderr` both go to `stdout`.

        A text in place of a path names a device, or is one of the constants of fork_server.py.
        """
        files = {"stdin": str(stdin or os.devnull), "stdout": str(stdout), "stderr": str(stderr or stdout)}
        request = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment), **files}
        for file in (stdout, stderr):
            if isinstance(file, Path):
                file.touch()
        with self._lock:
            self._channel.send(json.dumps(request).encode())
            while "started" not in (report := self._receive()):
                pass
            # The system may use a process id again.
            self._codes.pop(report["started"], None)
            return ForkedProcess(self, report["started"])

    def code(self, pid: int) -> int | None:
        """Return the exit code of a child, or None while it runs."""
        with self._lock:
            while select.select([self._channel], [], [], 0)[0]:
                self._receive()
            return self._codes.get(pid)

    def _receive(self) -> dict[str, int]:
        message = self._channel.recv(1 << 16)
        if not message:
            raise RuntimeError("the fork server has exited")
        report: dict[str, int] = json.loads(message)
        if "exited" in report:
            self._codes[report["exited"]] = report["code"]
        return report


@functools.cache
def _fork_server() -> ForkServer:
    return ForkServer()


def descendants(pid: int) -> set[int]:
    """Return all descendants of a process."""
    pids: set[int] = set()
    for child in _children(pid):
        pids |= {child} | descendants(child)
    return pids


def alive(pid: int) -> bool:
    """Return whether the process still runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return children
