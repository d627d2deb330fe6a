"""Several roles on one machine, alive and ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType

from worker import logs
from worker.cli.output import Exit

log = logs.get(__name__)

#: Seconds before a role that died is started again: the least, and the most for one that refuses to start time after time.
_RESTART, _RESTART_MOST = 1.0, 30.0


def end_with_parent() -> None:
    """Stop this process, in order, once the supervisor that started it is gone; even a killed one leaves nobody behind."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        log.warning("supervisor is gone; stopping")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


class Supervisor:
    """Starts roles as processes, starts them again when they die, and stops them together.

    Those in `held` start once `release`, asked every few seconds, says so. A role that refuses its settings at its first start ends
    all; later that is no more than a role that died, for what it needs from elsewhere may be back in a moment.
    """

    def __init__(
        self, roles: dict[str, list[str]], *, grace: float, held: set[str] | None = None, release: Callable[[], bool] = lambda: True
    ) -> None:
        self._grace = grace
        self._held = held or set()
        self._release = release
        self._commands = {name: [sys.executable, "-m", "worker", *arguments] for name, arguments in roles.items()}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        #: When each role that died is started again, and how often in a row each refused to start.
        self._again: dict[str, float] = {}
        self._refusals: Counter[str] = Counter()
        self._stopping = threading.Event()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._running = {name: self._spawn(name) for name in self._commands if name not in self._held}
        at_first = set(self._running)
        code = 0
        while not self._stopping.wait(2.0 if self._held else 0.2):
            if self._held and self._release():
                self._running |= {name: self._spawn(name) for name in self._held}
                self._held = set()
            for name, process in self._running.items():
                ended = process.poll()
                if ended is None:
                    continue
                if ended == Exit.CONFIGURATION and name in at_first:
                    code = ended
                    self._stop()
                elif name not in self._again:
                    at_first.discard(name)
                    self._again[name] = time.monotonic() + self._pause(name, ended)
                elif time.monotonic() > self._again[name] and not self._stopping.is_set():
                    del self._again[name]
                    self._running[name] = self._spawn(name)
        return self._wait() or code

    def _pause(self, name: str, ended: int) -> float:
        """Seconds before a role that ended is started again."""
        self._refusals[name] = self._refusals[name] + 1 if ended == Exit.CONFIGURATION else 0
        pause: float = min(_RESTART_MOST, _RESTART * 2 ** max(0, min(self._refusals[name], 30) - 1))
        log.error("role died and is started again", role=name, code=ended, seconds=pause)
        return pause

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        # A process group of its own: Ctrl-C at the terminal reaches the roles through us, once.
        # The pipe carries nothing; that it ends tells the role that we are gone.
        return subprocess.Popen(self._commands[name], start_new_session=True, stdin=subprocess.PIPE)  # noqa: S603

    def _stop(self, number: int = signal.SIGTERM, _frame: FrameType | None = None) -> None:
        again = self._stopping.is_set()
        self._stopping.set()
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    def _wait(self) -> int:
        deadline = time.monotonic() + self._grace + 5
        for name, process in self._running.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("role did not stop in time and was killed", role=name)
                process.kill()
                process.wait()
                return Exit.FAILED
        return Exit.DONE
