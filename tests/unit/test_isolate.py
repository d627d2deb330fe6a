"""Refused items of a group are found in few commits, and an outage refuses none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from worker.core.errors import RowRefusedError, StoreUnavailableError
from worker.sync.isolate import MAX_LONE_TRIES, commit_in_parts


class Database:
    """Refuses `refused`, loses the connection when it gets `poison`, and accepts nothing while `is_down`."""

    def __init__(self, *, refused: Sequence[int] = (), poison: Sequence[int] = (), max_group: int = 1000) -> None:
        self.refused, self.poison, self.max_group = set(refused), set(poison), max_group
        self.stored: list[int] = []
        self.commits = 0
        self.is_down = False

    def commit(self, items: Sequence[int]) -> int:
        self.commits += 1
        if self.is_down:
            raise StoreUnavailableError("down")
        if self.refused.intersection(items):
            raise RowRefusedError("too long")
        if self.poison.intersection(items) or len(items) > self.max_group:
            raise StoreUnavailableError("gone away", may_be_refused=True)
        self.stored += items
        return len(items)

    def check_others(self) -> None:
        if self.is_down:
            raise StoreUnavailableError("down")


def test_a_refused_item_is_found_in_a_logarithmic_number_of_commits() -> None:
    database = Database(refused=[137])

    result = commit_in_parts(range(500), database.commit, check_others=database.check_others)

    assert result.refused == [(137, "too long")]
    assert sorted(result.stored) == [number for number in range(500) if number != 137]
    assert result.new == 499
    assert database.commits <= 1 + 2 * 9


def test_items_are_committed_in_their_order() -> None:
    database = Database(refused=[2, 5])

    result = commit_in_parts(range(8), database.commit, check_others=database.check_others)

    assert database.stored == result.stored == [0, 1, 3, 4, 6, 7]
    assert [item for item, _ in result.refused] == [2, 5]


def test_an_item_that_fails_alone_again_and_again_is_refused() -> None:
    database = Database(poison=[3])

    result = commit_in_parts(range(4), database.commit, check_others=database.check_others)

    assert result.refused == [(3, "gone away")]
    assert database.stored == [0, 1, 2]
    assert database.commits == 1 + 1 + 1 + 1 + MAX_LONE_TRIES


def test_an_item_that_fails_once_is_stored() -> None:
    database = Database(poison=[3])

    def commit(items: Sequence[int]) -> int:
        try:
            return database.commit(items)
        finally:
            database.poison.clear()

    result = commit_in_parts([3], commit, check_others=database.check_others)

    assert (result.stored, result.refused) == ([3], [])


def test_a_group_that_is_only_too_large_together_is_stored_in_parts() -> None:
    database = Database(max_group=100)

    result = commit_in_parts(range(500), database.commit, check_others=database.check_others)

    assert result.refused == []
    assert database.stored == list(range(500))


def test_a_bug_that_one_item_triggers_stops_no_other_one() -> None:
    database = Database()

    def commit(items: Sequence[int]) -> int:
        if 2 in items:
            raise ValueError("the body")
        return database.commit(items)

    result = commit_in_parts(range(4), commit, check_others=database.check_others)

    assert result.refused == [(2, "vodsync failed: ValueError")]
    assert database.stored == [0, 1, 3]


def test_a_known_cause_replaces_the_error_and_saves_the_tries() -> None:
    database = Database(poison=[1])

    result = commit_in_parts([1], database.commit, check_others=database.check_others, explain=lambda _: "packet too large")

    assert result.refused == [(1, "packet too large")]
    assert database.commits == 1


@pytest.mark.parametrize("database", [Database(), Database(refused=[1]), Database(poison=[1])], ids=["fine", "refused", "poison"])
def test_an_outage_refuses_nothing(database: Database) -> None:
    database.is_down = True

    with pytest.raises(StoreUnavailableError) as raised:
        commit_in_parts([1, 2], database.commit, check_others=database.check_others)

    assert not isinstance(raised.value, RowRefusedError)
    assert database.commits == 1


def test_a_database_that_refuses_every_row_refuses_none_of_them() -> None:
    # A wrong date style or a missing column is not the fault of a notification.
    database = Database(refused=range(500))

    def refuse_others() -> None:
        raise StoreUnavailableError("it refuses every row")

    with pytest.raises(StoreUnavailableError, match="it refuses every row") as raised:
        commit_in_parts(range(500), database.commit, check_others=refuse_others)

    assert not isinstance(raised.value, RowRefusedError)
    assert database.commits <= 10


def test_no_items_need_no_commit() -> None:
    database = Database()

    assert commit_in_parts([], database.commit, check_others=database.check_others).stored == []
    assert database.commits == 0
