"""kombu's file-system broker, made safe for several processes that start, publish and die at the same time.

kombu creates its files before it fills them, so that a neighbour can read an empty one, which ends that neighbour's worker.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.transport.filesystem import exchange_queue_t
from kombu.utils.json import dumps


class Channel(filesystem.Channel):  # type: ignore[misc]
    """Every file appears whole or not at all."""

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        table: Path = self._exchange_file(exchange)
        if not table.exists():
            table.parent.mkdir(exist_ok=True)
            partial = self._write_aside(table.parent, [exchange_queue_t(routing_key or "", pattern or "", queue or "")])
            try:
                os.link(partial, table)
            except FileExistsError:
                pass
            finally:
                partial.unlink()
        super()._queue_bind(exchange, routing_key, pattern, queue)

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        folder = Path(self.data_folder_out)
        self._write_aside(folder, payload).rename(folder / f"{time.monotonic_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg")

    def _get(self, queue: str) -> Any:
        try:
            return super()._get(queue)
        except ValueError:
            # Half of a message that a dying process left behind; it carried no data anyway.
            raise Empty from None

    def _write_aside(self, folder: Path, value: Any) -> Path:
        partial = folder / f"{uuid.uuid4()}.partial"
        partial.write_text(dumps(value))
        return partial


class Transport(filesystem.Transport):  # type: ignore[misc]
    """What `filesystem://` means in our processes."""

    Channel = Channel


TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
