"""Many concurrent requests, one commit: while one transaction runs, the next one's deliveries gather. There is no timer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar, cast

from worker.core.errors import StoreUnavailableError

T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)

#: Deliveries in one transaction, and deliveries that may wait for one; at 1 MiB each the buffer stays bounded in memory too.
_GROUP, _BUFFER = 500, 2_000
_BUFFER_BYTES = 64 * 1024 * 1024


#: Seconds that a commit may take before the standby takes its group.
_PATIENCE = 1.0


class FallbackStore(Protocol[Item]):
    """Makes items durable while the database is away."""

    away: bool

    def save(self, items: Sequence[Item], /) -> None: ...


class BufferFullError(StoreUnavailableError):
    """More deliveries are waiting for a commit than we are willing to hold in memory."""


class GroupCommit(Generic[T]):
    """Hands items to `commit` in groups, on one thread a lane; each `submit` returns once its own group is committed.

    A second lane uses the time that a database server takes to answer; a local file has none to use. A `standby` takes the groups
    whose commit fails or takes too long, and all of them while it says that the database is away. Such a commit may still succeed
    later, so both may hold an item.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], object],
        *,
        lanes: int = 1,
        after: Callable[[], object] = lambda: None,
        standby: FallbackStore[T] | None = None,
    ) -> None:
        self._commit = commit
        self._after = after
        self._waiting: deque[tuple[T, int, asyncio.Future[None]]] = deque()
        self._bytes = 0
        self._writer = ThreadPoolExecutor(max_workers=lanes, thread_name_prefix="group-commit")
        self._lanes = lanes
        self._standby = standby
        self._keeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="standby")
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, item: T, size: int) -> None:
        """Returns when `item` (of `size` bytes) is durable. Raises StoreUnavailable, BufferFull among others: then it is not."""
        if len(self._waiting) >= _BUFFER or self._bytes + size > _BUFFER_BYTES:
            raise BufferFullError("too many deliveries are waiting for the database")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((item, size, future))
        self._bytes += size
        if len(self._running) < self._lanes:
            self._running.add(asyncio.create_task(self._run()))
        await future

    async def close(self) -> None:
        """Commit what was accepted, and end."""
        while self._running:
            await asyncio.wait(self._running)
        self._writer.shutdown(wait=False)
        self._keeper.shutdown(wait=False)

    async def _gather(self) -> None:
        """Give way to the event loop until a turn of it brings nobody new: whoever is on the way shares this commit.

        With one lane the commit before has been such a time.
        """
        before = -1
        while self._lanes > 1 and before < len(self._waiting) < _GROUP:
            before = len(self._waiting)
            await asyncio.sleep(0)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                await self._commit_group()
        finally:
            # At once, not in a callback: whoever submits next must see that nobody runs.
            self._running.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _commit_group(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP))]
        if not group:
            # Another lane took them.
            return
        self._bytes -= sum(size for _, size, _ in group)
        fault: StoreUnavailableError | None = None
        try:
            await self._make_durable([item for item, _, _ in group])
        except StoreUnavailableError as error:
            fault = error
        except Exception as error:
            fault = StoreUnavailableError(f"could not write: {type(error).__name__}")
            fault.__cause__ = error
        for _, _, future in group:
            if future.done():
                continue
            if fault is None:
                future.set_result(None)
            else:
                future.set_exception(fault)
        if fault is None:
            self._after()

    async def _make_durable(self, items: list[T]) -> None:
        loop = asyncio.get_running_loop()
        if self._standby is None:
            await loop.run_in_executor(self._writer, self._commit, items)
            return
        if not self._standby.away:
            commit = loop.run_in_executor(self._writer, self._commit, items)
            await asyncio.wait((commit,), timeout=_PATIENCE)
            if commit.done() and commit.exception() is None:
                return
            # How a commit ends that nobody waits for any more is no news.
            commit.add_done_callback(lambda late: late.exception())
        await loop.run_in_executor(self._keeper, self._standby.save, items)
