"""Real processes: started in a folder, logging to a file, waited for with a deadline, and never left behind."""

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

#: A busy machine may need so many times what a test thinks is long enough; where all is well nobody waits for it.
_SLOWER = 8


def eventually(look: Callable[[], T], *, within: float, missing: str | Callable[[], str], pause: float = 0.05) -> T:
    """The first true answer of `look`. Long after `within` seconds the test fails and says what was `missing`."""
    deadline = monotonic_clock.seconds() + within * _SLOWER
    while True:
        answer = look()
        if answer:
            return answer
        if monotonic_clock.seconds() > deadline:
            said = missing if isinstance(missing, str) else missing()
            raise AssertionError(f"after {within * _SLOWER:g} s still missing: {said}")
        time.sleep(pause)


def free_port() -> int:
    """Below those that the system gives to connections, so that none of them takes it before it is listened on."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def clean_environment(settings: Mapping[str, str], home: Path) -> dict[str, str]:
    """An environment with exactly these settings, in which neither the person's profile nor a metadata server gives credentials."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("VODSYNC_", "ALIBABA_CLOUD_"))}
    return inherited | {"HOME": str(home), "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"} | settings


class Process:
    """A process whose output goes to a log file; `stop` is SIGTERM and patience, `kill` is neither."""

    def __init__(self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path) -> None:
        self.log_file = log
        self.command = command
        self._popen: subprocess.Popen[bytes] | Born
        if tuple(command[: len(VODSYNC)]) == VODSYNC and sys.platform == "linux":
            self._popen = _fork_server().bear(command[len(VODSYNC) :], folder=folder, environment=environment, stdout=log)
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
        """Its exit code."""
        try:
            return self._popen.wait(within * _SLOWER)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{' '.join(self.command)} did not end within {within * _SLOWER:g} s; its log:\n{self.log[-3000:]}"
            ) from None

    def stop(self, *, within: float = 20) -> int:
        self.terminate()
        return self.wait(within=within)


def run(
    *arguments: str, folder: Path, environment: Mapping[str, str], stdin: str | None = None, within: float = 30
) -> subprocess.CompletedProcess[str]:
    """One `vodsync` command from start to end."""
    command, within = [*VODSYNC, *arguments], within * _SLOWER
    if sys.platform != "linux":
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=within, **given)
    with tempfile.TemporaryDirectory() as place:
        read, out, err = (Path(place, name) for name in ("stdin", "stdout", "stderr"))
        read.write_text(stdin or "")
        born = _fork_server().bear(arguments, folder=folder, environment=environment, stdin=read, stdout=out, stderr=err)
        try:
            code = born.wait(within)
        except subprocess.TimeoutExpired:
            born.kill()
            raise
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


class Born:
    """A child of the nursery, with as much of the interface of `subprocess.Popen` as we use."""

    def __init__(self, nursery: ForkServer, pid: int) -> None:
        self._fork_server = nursery
        self.pid = pid

    def poll(self) -> int | None:
        return self._fork_server.code(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
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
    """Forks our processes (nursery.py). Threads may share it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.system.fork_server", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        self._codes: dict[int, int] = {}
        self._lock = threading.Lock()

    def bear(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        stdout: Path,
        stdin: Path | None = None,
        stderr: Path | None = None,
    ) -> Born:
        """`vodsync` with these arguments. Output is appended; without `stderr` both go to `stdout`."""
        files = {"stdin": str(stdin or os.devnull), "stdout": str(stdout), "stderr": str(stderr or stdout)}
        order = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment), **files}
        for file in {files["stdout"], files["stderr"]}:
            Path(file).touch()
        with self._lock:
            self._channel.send(json.dumps(order).encode())
            while "began" not in (said := self._hear()):
                pass
            # A number that was given out before.
            self._codes.pop(said["began"], None)
            return Born(self, said["began"])

    def code(self, pid: int) -> int | None:
        """The exit code of a child that has ended."""
        with self._lock:
            while select.select([self._channel], [], [], 0)[0]:
                self._hear()
            return self._codes.get(pid)

    def _hear(self) -> dict[str, int]:
        message = self._channel.recv(1 << 16)
        if not message:
            raise RuntimeError("the nursery has ended")
        said: dict[str, int] = json.loads(message)
        if "ended" in said:
            self._codes[said["ended"]] = said["code"]
        return said


@functools.cache
def _fork_server() -> ForkServer:
    return ForkServer()


def descendants(pid: int) -> set[int]:
    """Every process below `pid`, however deep."""
    found: set[int] = set()
    for child in _children(pid):
        found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    """Whether the process still runs; a zombie that nobody has waited for does not."""
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
