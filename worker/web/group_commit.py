"""Many concurrent requests, one commit: while one transaction runs, the next one's deliveries gather. There is no timer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from worker.core.errors import StoreUnavailable

T = TypeVar("T")

#: Deliveries in one transaction, and deliveries that may wait for one; at 1 MiB each the buffer stays bounded in memory too.
_GROUP, _BUFFER = 500, 2_000
_BUFFER_BYTES = 64 * 1024 * 1024


class BufferFull(StoreUnavailable):
    """More deliveries are waiting for a commit than we are willing to hold in memory."""


class GroupCommit(Generic[T]):
    """Hands items to `commit` in groups, on one thread; each `submit` returns once its own group is committed."""

    def __init__(self, commit: Callable[[Sequence[T]], object], *, after: Callable[[], object] = lambda: None) -> None:
        self._commit = commit
        self._after = after
        self._waiting: deque[tuple[T, int, asyncio.Future[None]]] = deque()
        self._bytes = 0
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="group-commit")
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: T, size: int) -> None:
        """Returns when `item` (of `size` bytes) is durable. Raises StoreUnavailable, BufferFull among others: then it is not."""
        if len(self._waiting) >= _BUFFER or self._bytes + size > _BUFFER_BYTES:
            raise BufferFull("too many deliveries are waiting for the database")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((item, size, future))
        self._bytes += size
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        await future

    async def close(self) -> None:
        """Commit what was accepted, and end."""
        if self._running is not None:
            await self._running
        self._writer.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP))]
                self._bytes -= sum(size for _, size, _ in group)
                fault: BaseException | None = None
                try:
                    await loop.run_in_executor(self._writer, self._commit, [item for item, _, _ in group])
                except Exception as error:
                    fault = (
                        error
                        if isinstance(error, StoreUnavailable)
                        else StoreUnavailable(f"could not write: {type(error).__name__}")
                    )
                    fault.__cause__ = error
                for _, _, future in group:
                    if not future.done():
                        if fault is None:
                            future.set_result(None)
                        else:
                            future.set_exception(fault)
                if fault is None:
                    self._after()
        finally:
            self._running = None
