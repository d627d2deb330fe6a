"""A transport for the embedded broker that keeps a message until it is acknowledged.

A consumer claims a message by moving its file into a folder of its own. It holds a lock on that folder as long as it runs. A folder
without a lock belongs to a dead process, and its messages are requeued.
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
from worker.outage import Outage
from worker.queue.reliable_transport import ReliableChannel

log = logs.get(__name__)

#: A file that is not valid JSON is ignored for this long, because another program may still be writing it.
WRITE_TIMEOUT = 2.0  # seconds


class Channel(ReliableChannel, embedded_broker.Channel):
    """Also reads files that other programs move into the folder. Their names must end like kombu's: `.QUEUE.msg`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._claims = Path(self.transport_options["taken_folder"])
        self._messages = Path(self.data_folder_in)
        self._own_claims, self._lock = _create_claims_folder(self._claims)
        self._unreadable = Outage()

    def claim(self, queue: str) -> tuple[str, bytes] | None:
        for name in sorted(os.listdir(self._messages)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            path = self._messages / name
            tag = f"0_{uuid4()}.{queue}.msg"
            try:
                content = path.read_bytes()
                if not is_json(content) and time.time() - path.stat().st_mtime < WRITE_TIMEOUT:
                    continue
                # Of several consumers, only one succeeds to move the file.
                path.rename(self._own_claims / tag)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._log_unreadable(name, error)
                continue
            return tag, content
        return None

    def delete_claimed(self, tag: str) -> None:
        (self._own_claims / tag).unlink(missing_ok=True)

    def requeue_claimed(self, tag: str) -> None:
        (self._own_claims / tag).rename(self._messages / tag)

    def maintain_claims(self, tags: list[str]) -> None:
        for folder in self._claims.iterdir():
            if folder != self._own_claims:
                self._requeue_all(folder)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._requeue_all(self._own_claims, self._lock)

    def _requeue_all(self, folder: Path, lock: int | None = None) -> None:
        """Requeue the messages in `folder` and remove it, unless another process has locked it. Closes `lock`."""
        try:
            lock = os.open(folder, os.O_RDONLY) if lock is None else lock
        except FileNotFoundError:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in folder.iterdir():
                path.rename(self._messages / path.name)
            folder.rmdir()
        except (BlockingIOError, FileNotFoundError):
            return
        finally:
            os.close(lock)

    def _log_unreadable(self, name: str, error: OSError) -> None:
        message = f"{type(error).__name__}: {error.strerror}"
        # Never `recovered`: other files can be read, so each of these would be logged with every poll.
        if self._unreadable.failed(message, kind=name):
            log.warning("message file cannot be read", file=name, error=message)


class Transport(embedded_broker.Transport):
    """The embedded broker's transport with reliable channels."""

    Channel = Channel


def _create_claims_folder(parent: Path) -> tuple[Path, int]:
    """Return a new folder and the lock on it. The kernel releases the lock when this process ends, even if it is killed."""
    while True:
        folder = parent / uuid4().hex
        folder.mkdir()
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        # Another process removed it between its creation and the lock.
        os.close(lock)
