"""Concurrent requests share one commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from worker.core.errors import StoreUnavailableError
from worker.web import group_commit
from worker.web.group_commit import BufferFullError, GroupCommit


def test_requests_that_arrive_during_a_commit_share_the_next_one() -> None:
    groups: list[list[int]] = []
    first_started, go_on = threading.Event(), threading.Event()

    def commit(items: Sequence[int]) -> None:
        groups.append(list(items))
        if len(groups) == 1:
            first_started.set()
            go_on.wait(5)

    async def scenario() -> None:
        group = GroupCommit(commit)
        waiting = [asyncio.create_task(group.submit(0, 1))]
        await asyncio.to_thread(first_started.wait, 5)
        waiting += [asyncio.create_task(group.submit(number, 1)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*waiting)
        await group.close()

    asyncio.run(scenario())

    assert groups == [[0], [1, 2, 3]]


def test_a_failed_commit_fails_its_requests_and_not_the_next_ones() -> None:
    calls: list[list[int]] = []

    def commit(items: Sequence[int]) -> None:
        calls.append(list(items))
        if len(calls) == 1:
            raise OSError("disk")

    async def scenario() -> None:
        group = GroupCommit(commit)
        with pytest.raises(StoreUnavailableError):
            await group.submit(1, 1)
        await group.submit(2, 1)
        await group.close()

    asyncio.run(scenario())

    assert calls == [[1], [2]]


def test_the_buffer_is_bounded_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 2)
    monkeypatch.setattr(group_commit, "MAX_WAITING_SIZE", 100)
    go_on = threading.Event()

    async def scenario() -> None:
        group = GroupCommit[int](lambda _items: go_on.wait(5))
        running = asyncio.create_task(group.submit(0, 1))
        await asyncio.sleep(0.05)
        with pytest.raises(BufferFullError):
            await group.submit(1, 101)
        waiting = [asyncio.create_task(group.submit(number, 1)) for number in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(BufferFullError):
            await group.submit(3, 1)
        go_on.set()
        await asyncio.gather(running, *waiting)
        await group.close()

    asyncio.run(scenario())


def test_close_commits_what_was_submitted() -> None:
    committed: list[int] = []

    async def scenario() -> None:
        group: GroupCommit[int] = GroupCommit(committed.extend)
        waiting = [asyncio.create_task(group.submit(number, 1)) for number in range(5)]
        await asyncio.sleep(0)
        await group.close()
        await asyncio.gather(*waiting)

    asyncio.run(scenario())

    assert committed == [0, 1, 2, 3, 4]


class RecordingFallback:
    """A fallback that records what it saves."""

    def __init__(self, *, database_is_down: bool = False) -> None:
        self.database_is_down = database_is_down
        self.saved: list[int] = []

    def save(self, items: Sequence[int], /) -> None:
        self.saved += items
        self.database_is_down = True


def test_the_fallback_saves_what_the_database_does_not_commit_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "COMMIT_TIMEOUT", 0.05)
    go_on, fallback = threading.Event(), RecordingFallback()
    committed: list[int] = []

    def commit(items: Sequence[int]) -> None:
        go_on.wait(5)
        committed.extend(items)

    async def scenario() -> None:
        group = GroupCommit(commit, fallback=fallback)
        await group.submit(1, 1)
        await group.submit(2, 1)
        fallback.database_is_down = False
        go_on.set()
        await group.submit(3, 1)
        await group.close()

    asyncio.run(scenario())

    assert fallback.saved == [1, 2]
    assert committed == [1, 3]


def test_the_fallback_saves_what_the_database_refuses_and_its_own_failure_is_raised() -> None:
    def refuse(_items: Sequence[int]) -> None:
        raise StoreUnavailableError("gone")

    class FullFallback(RecordingFallback):
        def save(self, items: Sequence[int], /) -> None:
            raise StoreUnavailableError("disk full")

    fallback = RecordingFallback()

    async def scenario() -> None:
        group = GroupCommit(refuse, fallback=fallback)
        await group.submit(1, 1)
        await group.close()
        failing_group = GroupCommit(refuse, fallback=FullFallback())
        with pytest.raises(StoreUnavailableError, match="disk full"):
            await failing_group.submit(2, 1)
        await failing_group.close()

    asyncio.run(scenario())

    assert fallback.saved == [1]
