"""The embedded broker: kombu's folder of messages, in which nobody ever meets half a file.

Other people's programs import this too, to hear the change feed: it reads no settings, configures nothing, and logs as they do.
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


class Channel(filesystem.Channel):  # type: ignore[misc]
    """Files appear whole and go at once, whenever their writer or their reader is killed.

    kombu opens a file and then fills it. A worker that looks in between takes an empty message, which ends it; a process that is
    killed in between leaves an empty exchange, with which none starts any more.
    """

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        name = f"{_turn():020}_{uuid4()}.{queue}.msg"
        _write(Path(self.data_folder_out, name), payload)

    def _get(self, queue: str) -> Any:
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            path = Path(self.data_folder_in, name)
            try:
                written = path.read_bytes()
                # Whoever removes it has it.
                path.unlink()
            except FileNotFoundError:
                continue
            try:
                return loads(written.decode())
            except ValueError:
                log.warning("half a message of %s dropped", queue)
        raise Empty

    def get_table(self, exchange: str) -> list[Any]:
        try:
            return list(super().get_table(exchange))
        except ValueError:
            # The next worker that starts binds its queue again.
            return []

    def _queue_bind(self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None) -> None:
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with (self.control_folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            bindings = self.get_table(exchange)
            if binding not in bindings:
                _write(self._exchange_file(exchange), [binding, *bindings])


class Transport(filesystem.Transport):  # type: ignore[misc]
    """What `broker_transport` names. The transport option `longest_wait`, in seconds, limits how long one wait takes."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        longest = connection.client.transport_options.get("longest_wait", timeout)
        super().drain_events(connection, timeout=longest if timeout is None else min(timeout, longest))


_turns = threading.Lock()
_last_turn = 0


def _turn() -> int:
    """A number by which messages come out as they went in, those of one process in any case.

    kombu's milliseconds since the machine's start leave two within one to chance, and begin anew with the machine.
    """
    global _last_turn
    with _turns:
        _last_turn = max(_last_turn + 1, time.time_ns())
        return _last_turn


def _write(path: Path, content: Any) -> None:
    # One name for each thread that may write at once: what a kill leaves behind is overwritten some day, and does not pile up.
    draft = path.with_name(f"{os.getpid()}-{threading.get_native_id()}.draft")
    draft.write_bytes(dumps(content).encode())
    draft.replace(path)
