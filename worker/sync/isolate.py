"""Find the items of a group that the database refuses, and commit the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from worker.core.errors import RowRefusedError, StoreUnavailableError

T = TypeVar("T")

MAX_LONE_TRIES = 3  # commits of a single item that fail for an unclear reason while other rows are accepted


@dataclass(slots=True)
class Isolated(Generic[T]):
    """What became of a group: `new` is the sum of what the commits returned. Each refused item has its reason."""

    stored: list[T] = field(default_factory=list)
    new: int = 0
    refused: list[tuple[T, str]] = field(default_factory=list)


def commit_in_parts(
    items: Sequence[T],
    commit: Callable[[Sequence[T]], int],
    *,
    check_others: Callable[[], object],
    explain: Callable[[Sequence[T]], str | None] = lambda _items: None,
) -> Isolated[T]:
    """Commit `items`. A group that the database refuses is halved until the refused item is alone.

    `check_others` raises StoreUnavailableError unless the database accepts an ordinary row now. `explain` returns why the database
    cannot take these items, if that is known.

    Raises StoreUnavailableError if the database accepts no other rows either. A part of the items may have been committed.
    """
    result: Isolated[T] = Isolated()
    parts = [list(items)] if items else []
    while parts:
        part = parts.pop()
        try:
            result.new += _commit(part, commit, check_others, explain)
        except RowRefusedError as error:
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                result.refused.append((part[0], str(error)))
        else:
            result.stored += part
    return result


def _commit(
    items: Sequence[T],
    commit: Callable[[Sequence[T]], int],
    check_others: Callable[[], object],
    explain: Callable[[Sequence[T]], str | None],
) -> int:
    """Raises RowRefusedError if one of the items is the cause, StoreUnavailableError if the database is."""
    is_alone = len(items) == 1
    for attempt in range(1, MAX_LONE_TRIES + 1):
        try:
            return commit(items)
        except RowRefusedError:
            # A wrong setting of the session or the schema can make the database refuse every row.
            if is_alone:
                check_others()
            raise
        except StoreUnavailableError as error:
            failure = error
        except Exception as error:
            # A bug in vodsync that one item triggers. The type alone: the message may contain the body.
            failure = StoreUnavailableError(f"vodsync failed: {type(error).__name__}", may_be_refused=True)
        if not failure.may_be_refused:
            raise failure
        check_others()
        reason = explain(items)
        if reason or not is_alone or attempt == MAX_LONE_TRIES:
            raise RowRefusedError(reason or str(failure)) from failure
    raise AssertionError("unreachable")
