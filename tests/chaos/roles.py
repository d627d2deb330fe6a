"""Receivers and workers that are killed and started again."""

from __future__ import annotations

import http.client
import re
import time
from collections import Counter
from collections.abc import Callable

from tests.system.processes import Process

_STOP_LIMIT = 45.0  # seconds from SIGTERM to the end of a role: its own grace period and a reserve


class Role:
    """One role of the installation, with one process at a time."""

    def __init__(self, name: str, start: Callable[[], Process]) -> None:
        self.name = name
        self.injected: Counter[str] = Counter()
        #: Unexpected exits and stops that took too long.
        self.problems: list[str] = []
        self._start = start
        self._process = start()
        self._log_begins = 0
        self._has_started = False
        self._stop_sent_at: float | None = None
        #: The time of the next start; None while a process runs.
        self._restart_at: float | None = None
        self._pause = 0.0

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def has_started(self) -> bool:
        """Whether it runs and has logged that it has started."""
        if self.running and not self._has_started:
            with self._process.log_file.open("rb") as log:
                log.seek(self._log_begins)
                self._has_started = re.search(rb'"(receiver|worker) started"', log.read()) is not None
        return self.running and self._has_started

    def kill(self, *, pause: float) -> None:
        """Send SIGKILL, also during a start or a stop. The next process starts `pause` seconds later."""
        self._process.kill()
        self.injected["kill"] += 1
        self._stop_sent_at = None
        self._restart_at = time.monotonic() + pause

    def stop(self, *, pause: float) -> None:
        """Send SIGTERM. The next process starts `pause` seconds after the end of this one."""
        if self._stop_sent_at is None:
            self._process.terminate()
            self.injected["stop"] += 1
            self._stop_sent_at, self._pause = time.monotonic(), pause

    def supervise(self) -> None:
        """Start the next process if it is due. Record an unexpected exit."""
        now = time.monotonic()
        if self._restart_at is not None:
            if now >= self._restart_at:
                self._log_begins, self._has_started = self._process.log_file.stat().st_size, False
                self._process, self._restart_at = self._start(), None
        elif self._process.running:
            if self._stop_sent_at is not None and now - self._stop_sent_at > _STOP_LIMIT:
                self.problems.append(f"{self.name} did not stop within {_STOP_LIMIT:g} s")
                self.kill(pause=0)
        else:
            exit_code = self._process.exit_code
            # -15: SIGTERM arrived before Python had installed its handler.
            if self._stop_sent_at is None or exit_code not in (0, -15):
                cause = "after SIGTERM" if self._stop_sent_at is not None else "by itself"
                self.problems.append(f"{self.name} ended {cause} with code {exit_code}: {self._process.log[-600:]}")
            self._restart_at, self._stop_sent_at = now + self._pause, None

    def wait_until_running(self) -> None:
        """Wait for a pending stop and start the next process at once."""
        while self._restart_at is not None or self._stop_sent_at is not None or not self._process.running:
            if self._restart_at is not None:
                self._restart_at = 0.0
            self.supervise()
            time.sleep(0.02)


def answers(port: int, path: str) -> bool:
    """Return whether the receiver at `port` answers 200 at `path`."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request("GET", path)
        return client.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()
