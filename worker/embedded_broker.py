"""The embedded broker's kombu transport: messages are files in a folder, and a file is never visible half written.

Other programs import this module too, to read the change feed. So it reads no settings, configures nothing and uses the standard
logging. For the same reason it is not in `worker.queue`: importing that package reads the settings and creates the Celery app.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

log = logging.getLogger(__name__)


class Channel(filesystem.Channel):  # type: ignore[misc]  # kombu has no types
    """Writes and removes each file in one step, so a process that is killed leaves no half-written file.

    kombu opens a file and then fills it. A worker that reads in between receives an empty message and stops with an error. A
    process that is killed in between leaves an empty exchange file, with which no worker can start.
    """

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        name = f"{_next_sequence_number():020}_{uuid4()}.{queue}.msg"
        _write_atomically(Path(self.data_folder_out, name), payload)

    def _get(self, queue: str) -> Any:
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            path = Path(self.data_folder_in, name)
            try:
                content = path.read_bytes()
                # Of several consumers, only one succeeds to remove the file.
                path.unlink()
            except FileNotFoundError:
                continue
            try:
                return loads(content.decode())
            except ValueError:
                log.warning("invalid message dropped from queue %s", queue)
        raise Empty

    def get_table(self, exchange: str) -> list[Any]:
        try:
            return list(super().get_table(exchange))
        except ValueError:
            # The file is incomplete. The next worker that starts binds its queue and so writes it again.
            return []

    def _queue_bind(self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None) -> None:
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with (self.control_folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            bindings = self.get_table(exchange)
            if binding not in bindings:
                _write_atomically(self._exchange_file(exchange), [binding, *bindings])


class Transport(filesystem.Transport):  # type: ignore[misc]  # kombu has no types
    """The class for Celery's setting `broker_transport`. The transport option `longest_wait` limits one wait, in seconds."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        longest = connection.client.transport_options.get("longest_wait", timeout)
        super().drain_events(connection, timeout=longest if timeout is None else min(timeout, longest))


_sequence_lock = threading.Lock()
_last_sequence_number = 0


def _next_sequence_number() -> int:
    """Return a number that sorts messages in the order in which they were sent, at least those of one process.

    kombu uses milliseconds since the machine's start. Two messages within one millisecond then have a random order, and the numbers
    start again with the machine.
    """
    global _last_sequence_number
    with _sequence_lock:
        _last_sequence_number = max(_last_sequence_number + 1, time.time_ns())
        return _last_sequence_number


def _write_atomically(path: Path, content: Any) -> None:
    # One name for each thread that may write at the same time. A draft that a killed process leaves is overwritten later, so
    # drafts do not accumulate.
    draft = path.with_name(f"{os.getpid()}-{threading.get_native_id()}.draft")
    draft.write_bytes(dumps(content).encode())
    draft.replace(path)
