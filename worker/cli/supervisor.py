"""Run several roles as child processes: restart those that die, and stop all together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType

from worker import logs
from worker.cli.output import Exit
from worker.cli.processes import child_environment, vodsync_command
from worker.core.backoff import Backoff, FailureCounter
from worker.process_signals import on_stop

log = logs.get(__name__)

STOP_TIMEOUT = 30  # seconds that requests, or a batch, get to finish after SIGTERM
KILL_AFTER = STOP_TIMEOUT + 5  # seconds until a role that does not stop is killed

POLL_INTERVAL = 0.2  # seconds
DEFERRED_INTERVAL = 2.0  # seconds between two calls of `is_ready`

#: The pause before a role is started again. It grows only while the role refuses its configuration.
RESTART_BACKOFF = Backoff(first=timedelta(seconds=1), longest=timedelta(seconds=30))


def end_with_parent() -> None:
    """Stop this process in order when the supervisor that started it has ended, even if that was killed."""

    def watch() -> None:
        # The supervisor holds the other end of stdin and writes nothing. The system closes it when the supervisor ends.
        while os.read(0, 1):
            pass
        log.warning("supervisor has ended; stopping")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _reason(exit_code: int) -> str:
    """Return in words why a role ended."""
    if exit_code >= 0:
        return "its own log lines have the reason"
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"signal {-exit_code}"
    if exit_code == -signal.SIGKILL:
        return f"killed by {name}; the system may have had too little memory: give vodsync more, or set a smaller --concurrency"
    return f"killed by {name}; read the log of the system for the reason"


class Supervisor:
    """Starts each role as a process, restarts it when it dies, and stops all roles together.

    `roles` has the arguments of `vodsync` for each role. Roles in `deferred` start once `is_ready` returns True; it is called every
    two seconds. If a role exits with CONFIGURATION at its first start, all roles end. Later it is restarted like any role that
    died, because the settings were accepted before and what it misses may come back.
    """

    def __init__(
        self, roles: dict[str, list[str]], *, deferred: set[str] | None = None, is_ready: Callable[[], bool] = lambda: True
    ) -> None:
        self._commands = {name: vodsync_command(*arguments) for name, arguments in roles.items()}
        self._deferred = deferred or set()
        self._is_ready = is_ready
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        #: When each role that died is started again, by the monotonic clock.
        self._restart_at: dict[str, float] = {}
        self._refusals = {name: FailureCounter(RESTART_BACKOFF) for name in roles}
        self._stopping = threading.Event()

    def run(self) -> int:
        """Run until a signal stops all roles. Return the exit code."""
        on_stop(self._stop)
        self._running = {name: self._start(name) for name in self._commands if name not in self._deferred}
        first_starts = set(self._running)
        code = 0
        while not self._stopping.wait(DEFERRED_INTERVAL if self._deferred else POLL_INTERVAL):
            if self._deferred and self._is_ready():
                self._running |= {name: self._start(name) for name in self._deferred}
                self._deferred = set()
            for name, process in self._running.items():
                exit_code = process.poll()
                if exit_code is None:
                    continue
                if exit_code == Exit.CONFIGURATION and name in first_starts:
                    code = exit_code
                    self._stop()
                elif name not in self._restart_at:
                    first_starts.discard(name)
                    self._restart_at[name] = time.monotonic() + self._pause(name, exit_code)
                elif time.monotonic() > self._restart_at[name] and not self._stopping.is_set():
                    del self._restart_at[name]
                    self._running[name] = self._start(name)
        return self._wait() or code

    def _pause(self, name: str, exit_code: int) -> float:
        """Return the seconds before a role that ended is started again."""
        refusals = self._refusals[name]
        if exit_code != Exit.CONFIGURATION:
            refusals.reset()
        pause = (refusals.failed() if exit_code == Exit.CONFIGURATION else RESTART_BACKOFF.first).total_seconds()
        log.error("role died and is started again", role=name, code=exit_code, reason=_reason(exit_code), seconds=pause)
        return pause

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        # With a session of its own, the role does not receive the Ctrl-C of the terminal. It gets one signal, from us.
        # The pipe is for end_with_parent().
        return subprocess.Popen(  # noqa: S603 - the command is ours
            self._commands[name], env=child_environment(), start_new_session=True, stdin=subprocess.PIPE
        )

    def _stop(self, number: int = signal.SIGTERM, _frame: FrameType | None = None) -> None:
        """Ask all roles to stop; kill them at the second call."""
        is_second = self._stopping.is_set()
        self._stopping.set()
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGKILL if is_second else signal.SIGTERM)

    def _wait(self) -> int:
        deadline = time.monotonic() + KILL_AFTER
        for name, process in self._running.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("role did not stop in time and was killed", role=name)
                process.kill()
                process.wait()
                return Exit.FAILED
        return Exit.DONE
