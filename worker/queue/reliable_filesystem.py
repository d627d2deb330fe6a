"""The embedded broker's folder, for messages that must not be lost.

Whoever takes a message moves its file into a folder of its own, and holds a lock on that folder for as long as it lives. A folder
that nobody holds belongs to a process that is gone: its messages go back.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from worker import embedded_broker, logs
from worker.core.reprocess import is_json
from worker.queue.reliable_transport import ReliableChannel

log = logs.get(__name__)

#: Seconds that a file which another program writes in place gets to become whole.
_WRITING = 2.0


class Channel(ReliableChannel, embedded_broker.Channel):
    """Files that other programs move here are as good as kombu's, where their names end like those: .QUEUE.msg."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._taken = Path(self.transport_options["taken_folder"])
        self._waiting = Path(self.data_folder_in)
        self._hands, self._lock = _hands(self._taken)
        self._unreadable: set[str] = set()

    def take(self, queue: str) -> tuple[str, bytes] | None:
        for name in sorted(os.listdir(self._waiting)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            path = self._waiting / name
            tag = f"0_{uuid4()}.{queue}.msg"
            try:
                written = path.read_bytes()
                if not is_json(written) and time.time() - path.stat().st_mtime < _WRITING:
                    continue
                # Whoever moves it has it.
                path.rename(self._hands / tag)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._complain(name, error)
                continue
            return tag, written
        return None

    def forget(self, tag: str) -> None:
        (self._hands / tag).unlink(missing_ok=True)

    def give_back(self, tag: str) -> None:
        (self._hands / tag).rename(self._waiting / tag)

    def tend(self, held: list[str]) -> None:
        for folder in self._taken.iterdir():
            if folder != self._hands:
                self._inherit(folder)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._inherit(self._hands, self._lock)

    def _inherit(self, folder: Path, lock: int | None = None) -> None:
        """Give back what is in `folder` and remove it, unless somebody else holds it."""
        try:
            lock = os.open(folder, os.O_RDONLY) if lock is None else lock
        except FileNotFoundError:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in folder.iterdir():
                path.rename(self._waiting / path.name)
            folder.rmdir()
        except (BlockingIOError, FileNotFoundError):
            return
        finally:
            os.close(lock)

    def _complain(self, name: str, error: OSError) -> None:
        if name not in self._unreadable:
            self._unreadable.add(name)
            log.warning("message cannot be taken", file=name, error=f"{type(error).__name__}: {error.strerror}")


class Transport(embedded_broker.Transport):
    """Its channels keep what they take."""

    Channel = Channel


def _hands(taken: Path) -> tuple[Path, int]:
    """A new folder and the lock on it, which the kernel lets go of when this process ends, however it ends."""
    while True:
        folder = taken / uuid4().hex
        folder.mkdir()
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        # Another process took it for left behind, in the moment before the lock.
        os.close(lock)
