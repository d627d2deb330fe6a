"""Real processes: started in a folder, logging to a file, waited for with a deadline, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

VODSYNC = (sys.executable, "-m", "worker")


def eventually(look: Callable[[], T], *, within: float, missing: str | Callable[[], str], pause: float = 0.05) -> T:
    """The first true answer of `look`. After `within` seconds the test fails and says what was `missing`."""
    deadline = time.monotonic() + within
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            said = missing if isinstance(missing, str) else missing()
            raise AssertionError(f"after {within:g} s still missing: {said}")
        time.sleep(pause)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(settings: Mapping[str, str], home: Path) -> dict[str, str]:
    """An environment with exactly these settings, in which neither the person's profile nor a metadata server gives credentials."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("VODSYNC_", "ALIBABA_CLOUD_"))}
    return inherited | {"HOME": str(home), "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"} | settings


class Process:
    """A process whose output goes to a log file; `stop` is SIGTERM and patience, `kill` is neither."""

    def __init__(self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path) -> None:
        self.log_file = log
        self.command = command
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
            return self._popen.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{' '.join(self.command)} did not end within {within:g} s; its log:\n{self.log[-3000:]}"
            ) from None

    def stop(self, *, within: float = 20) -> int:
        self.terminate()
        return self.wait(within=within)


def run(
    *arguments: str, folder: Path, environment: Mapping[str, str], stdin: str | None = None, within: float = 30
) -> subprocess.CompletedProcess[str]:
    """One `vodsync` command from start to end."""
    return subprocess.run(
        [*VODSYNC, *arguments],
        cwd=folder,
        env=dict(environment),
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within,
    )


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
