"""Group concurrent notifications into one database commit.

While one transaction runs, the deliveries for the next one are collected. There is no timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar, cast

from worker.core.errors import StoreUnavailableError
from worker.web.write_state import WriteState

T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)

MAX_GROUP_SIZE = 500  # deliveries in one transaction

#: Limits of what waits for a transaction. The second one bounds the memory: a delivery has up to 1 MiB.
MAX_WAITING = 2_000  # deliveries
MAX_WAITING_SIZE = 64 * 1024 * 1024  # bytes

COMMIT_TIMEOUT = 1.0  # seconds until the fallback stores the group


class FallbackStore(Protocol[Item]):
    """Stores items durably while the database is down."""

    database_is_down: bool

    def save(self, items: Sequence[Item], /) -> None:
        """Return when `items` are durable. Raises StoreUnavailableError otherwise."""


class BufferFullError(StoreUnavailableError):
    """More deliveries wait for a commit than may be kept in memory."""


class GroupCommit(Generic[T]):
    """Calls `commit` with groups of items on `writers` threads.

    `after_commit` follows each group that is durable, in the database or in the fallback. With two writers, one works while the
    other waits for the database server.
    The fallback saves a group whose commit fails or takes longer than `COMMIT_TIMEOUT`, and all groups while it reports that the
    database is down. A commit that took too long may still succeed, so an item can be in both. `state` records which groups are
    durable.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], object],
        *,
        writers: int = 1,
        after_commit: Callable[[], object] = lambda: None,
        fallback: FallbackStore[T] | None = None,
        state: WriteState | None = None,
    ) -> None:
        self._state = state or WriteState(lambda: None)
        self._commit = commit
        self._after_commit = after_commit
        self._waiting: deque[tuple[T, int, asyncio.Future[None]]] = deque()
        self._waiting_size = 0
        self._writers = writers
        self._writer_threads = ThreadPoolExecutor(max_workers=writers, thread_name_prefix="group-commit")
        self._fallback = fallback
        self._fallback_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fallback")
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, item: T, size: int) -> None:
        """Return when `item`, which takes `size` bytes, is durable.

        Raises StoreUnavailableError if it could not be stored, BufferFullError if too many items wait.
        """
        if len(self._waiting) >= MAX_WAITING or self._waiting_size + size > MAX_WAITING_SIZE:
            raise BufferFullError("too many deliveries are waiting for the database")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((item, size, future))
        self._waiting_size += size
        if len(self._running) < self._writers:
            self._running.add(asyncio.create_task(self._run()))
        await future

    async def close(self) -> None:
        """Store what was submitted, and end the threads."""
        while self._running:
            await asyncio.wait(self._running)
        self._writer_threads.shutdown(wait=False)
        self._fallback_thread.shutdown(wait=False)

    async def _collect(self) -> None:
        """Let the event loop run until an iteration adds no item, so that concurrent requests share a commit.

        A single writer needs no extra time: items are collected while its previous commit runs.
        """
        count_before = -1
        while self._writers > 1 and count_before < len(self._waiting) < MAX_GROUP_SIZE:
            count_before = len(self._waiting)
            await asyncio.sleep(0)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._collect()
                await self._commit_group()
        finally:
            # Not in a done callback, which runs later: the next `submit` must see that this task has ended.
            self._running.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _commit_group(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_GROUP_SIZE))]
        if not group:
            # The other writer took them.
            return
        self._waiting_size -= sum(size for _, size, _ in group)
        failure: StoreUnavailableError | None = None
        try:
            await self._make_durable([item for item, _, _ in group])
        except StoreUnavailableError as error:
            failure = error
        except Exception as error:
            failure = StoreUnavailableError(f"could not write: {type(error).__name__}")
            failure.__cause__ = error
        if failure is None:
            self._state.succeeded()
        else:
            self._state.failed(failure, count=len(group))
        for _, _, future in group:
            if future.done():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)
        if failure is None:
            self._after_commit()

    async def _make_durable(self, items: list[T]) -> None:
        loop = asyncio.get_running_loop()
        if self._fallback is None:
            await loop.run_in_executor(self._writer_threads, self._commit, items)
            return
        if not self._fallback.database_is_down:
            commit = loop.run_in_executor(self._writer_threads, self._commit, items)
            await asyncio.wait((commit,), timeout=COMMIT_TIMEOUT)
            if commit.done() and commit.exception() is None:
                return
            # Retrieve the exception of a commit that ends later, or asyncio logs it as never retrieved.
            commit.add_done_callback(lambda late: late.exception())
        await loop.run_in_executor(self._fallback_thread, self._fallback.save, items)
