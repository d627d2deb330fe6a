"""Receivers and workers that are killed and come back."""

from __future__ import annotations

import http.client
import re
import time
from collections import Counter
from collections.abc import Callable

from tests.system.processes import Process

#: Seconds in which a role that was asked to stop has to be gone: its own grace and some.
_GRACE = 45.0


class Role:
    """One role of the installation, with one process at a time."""

    def __init__(self, name: str, start: Callable[[], Process]) -> None:
        self.name = name
        self.struck: Counter[str] = Counter()
        #: What the role did that nobody asked for.
        self.complaints: list[str] = []
        self._start = start
        self._process = start()
        self._log_begins = 0
        self._at_work = False
        self._asked_at: float | None = None
        #: When the next process is to be started; None while one runs.
        self._due: float | None = None
        self._pause = 0.0

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def at_work(self) -> bool:
        """It runs, and its log says that it has started."""
        if self.running and not self._at_work:
            with self._process.log_file.open("rb") as log:
                log.seek(self._log_begins)
                self._at_work = re.search(rb'"(receiver|worker) started"', log.read()) is not None
        return self.running and self._at_work

    def kill(self, *, pause: float) -> None:
        """SIGKILL, also in the middle of a start or of a stop; the next process comes `pause` seconds later."""
        self._process.kill()
        self.struck["kill"] += 1
        self._asked_at = None
        self._due = time.monotonic() + pause

    def stop(self, *, pause: float) -> None:
        """SIGTERM; the next process comes `pause` seconds after the end of this one."""
        if self._asked_at is None:
            self._process.terminate()
            self.struck["stop"] += 1
            self._asked_at, self._pause = time.monotonic(), pause

    def look_after(self) -> None:
        """Start the next process where it is time; write down an end that nobody asked for."""
        now = time.monotonic()
        if self._due is not None:
            if now >= self._due:
                self._log_begins, self._at_work = self._process.log_file.stat().st_size, False
                self._process, self._due = self._start(), None
        elif self._process.running:
            if self._asked_at is not None and now - self._asked_at > _GRACE:
                self.complaints.append(f"{self.name} did not stop within {_GRACE:g} s")
                self.kill(pause=0)
        else:
            code = self._process.exit_code
            # -15 is a SIGTERM that came before Python could take it.
            if self._asked_at is None or code not in (0, -15):
                why = "after SIGTERM" if self._asked_at is not None else "by itself"
                self.complaints.append(f"{self.name} ended {why} with code {code}: {self._process.log[-600:]}")
            self._due, self._asked_at = now + self._pause, None

    def settle(self) -> None:
        """Have it running, and neither asked to stop nor about to be."""
        while self._due is not None or self._asked_at is not None or not self._process.running:
            if self._due is not None:
                self._due = 0.0
            self.look_after()
            time.sleep(0.02)


def answers(port: int, path: str) -> bool:
    """Whether the receiver at `port` answers 200 at `path`."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request("GET", path)
        return client.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()
