"""The limits of group commit, and requests that end while their group is committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from worker.core.errors import StoreUnavailableError
from worker.web.group_commit import GroupCommit

MEBIBYTE = 1024 * 1024

#: Seconds until a request that never returns fails its test.
DEADLINE = 10


class BlockingCommit:
    """A commit function that records its groups. Each commit waits until the test sets `go_on`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.groups: list[list[int]] = []
        self.started = threading.Event()
        self.go_on = threading.Event()
        self._error = error

    def __call__(self, items: Sequence[int]) -> None:
        self.groups.append(list(items))
        self.started.set()
        self.go_on.wait(DEADLINE)
        if self._error is not None:
            raise self._error


def test_committed_items_free_the_buffer() -> None:
    committed: list[int] = []

    async def scenario() -> None:
        group: GroupCommit[int] = GroupCommit(committed.extend)
        async with asyncio.timeout(DEADLINE):
            for number in range(130):
                await group.submit(number, MEBIBYTE)
            await group.close()

    asyncio.run(scenario())

    assert committed == list(range(130))


def test_items_whose_commit_failed_free_the_buffer_too() -> None:
    def refuse(_items: Sequence[int]) -> None:
        raise OSError("disk")

    async def scenario() -> list[BaseException]:
        group: GroupCommit[int] = GroupCommit(refuse)
        errors: list[BaseException] = []
        async with asyncio.timeout(DEADLINE):
            for _ in range(3):
                results = await asyncio.gather(*(group.submit(number, MEBIBYTE) for number in range(64)), return_exceptions=True)
                errors += [result for result in results if result is not None]
            await group.close()
        return errors

    errors = asyncio.run(scenario())

    assert [str(error) for error in errors] == ["could not write: OSError"] * 192


def test_a_group_has_at_most_500_items() -> None:
    commit = BlockingCommit()

    async def scenario() -> None:
        group: GroupCommit[int] = GroupCommit(commit)
        async with asyncio.timeout(DEADLINE):
            requests = [asyncio.create_task(group.submit(0, 1))]
            await asyncio.to_thread(commit.started.wait, DEADLINE)
            requests += [asyncio.create_task(group.submit(number, 1)) for number in range(1, 1002)]
            await asyncio.sleep(0)
            commit.go_on.set()
            await asyncio.gather(*requests)
            await group.close()

    asyncio.run(scenario())

    assert [len(items) for items in commit.groups] == [1, 500, 500, 1]
    assert [item for items in commit.groups for item in items] == list(range(1002))


@pytest.mark.parametrize("error", [None, StoreUnavailableError("no answer")], ids=["committed", "failed"])
def test_a_request_that_is_cancelled_during_its_commit_does_not_affect_the_others_of_its_group(error: Exception | None) -> None:
    commit = BlockingCommit(error)

    async def scenario() -> list[BaseException | None]:
        group: GroupCommit[int] = GroupCommit(commit)
        async with asyncio.timeout(DEADLINE):
            requests = [asyncio.create_task(group.submit(number, 1)) for number in (1, 2, 3)]
            await asyncio.to_thread(commit.started.wait, DEADLINE)
            requests[0].cancel()
            await asyncio.sleep(0)
            commit.go_on.set()
            results = await asyncio.gather(*requests, return_exceptions=True)
            await group.close()
        return results

    cancelled, *others = asyncio.run(scenario())

    assert commit.groups == [[1, 2, 3]]
    assert isinstance(cancelled, asyncio.CancelledError)
    assert others == [error, error]


def test_the_wake_up_is_sent_once_per_committed_group_and_not_after_a_failed_one() -> None:
    events: list[str] = []

    def commit(items: Sequence[int]) -> None:
        events.append(f"commit {list(items)}")
        if 1 in items:
            raise StoreUnavailableError("no answer")

    async def scenario() -> None:
        group: GroupCommit[int] = GroupCommit(commit, after_commit=lambda: events.append("wake-up"))
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(StoreUnavailableError):
                await group.submit(1, 1)
            await asyncio.gather(group.submit(2, 1), group.submit(3, 1))
            await group.close()

    asyncio.run(scenario())

    assert events == ["commit [1]", "commit [2, 3]", "wake-up"]


class FullFallback:
    """A fallback whose disk is full."""

    database_is_down = True

    def save(self, _items: Sequence[int], /) -> None:
        raise StoreUnavailableError("disk full")


def test_no_wake_up_is_sent_if_the_fallback_fails() -> None:
    wakeups: list[str] = []

    async def scenario() -> None:
        group: GroupCommit[int] = GroupCommit(
            lambda _items: None, after_commit=lambda: wakeups.append("sent"), fallback=FullFallback()
        )
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(StoreUnavailableError, match="disk full"):
                await group.submit(1, 1)
            await group.close()

    asyncio.run(scenario())

    assert wakeups == []
