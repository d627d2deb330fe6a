"""Wait until requested media are fetched, in constant memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from tempfile import SpooledTemporaryFile

from worker import runtime
from worker.cli.bar import Bar
from worker.cli.context import first_problem
from worker.cli.output import print_info
from worker.store.inbox.outcomes import Outcome, SyncOutcome, outcomes

CHUNK_SIZE = 1000  # ids per query
MAX_KEPT_FAILURES = 10_000  # failures kept with their id

POLL_INTERVAL = 0.2  # seconds between two queries
STUCK_AFTER = 2.0  # seconds without progress of the oldest requests until later ones are queried too
HINT_AFTER = 5.0  # seconds without any progress until the likely reason is printed

MAX_MEMORY = 1 << 20  # bytes of ids in memory; further ones go to a temporary file


class Awaited:
    """Ids in the order in which they were requested. A million of them take a file of 30 MB and hardly any memory."""

    def __init__(self) -> None:
        self.count = 0
        self._unread, self._put_back = _new_file(), _new_file()
        self._is_reading = False

    def add(self, keys: Sequence[str]) -> None:
        """Append ids. Call it before the first `take`."""
        self.count += len(keys)
        _write(self._unread, keys)

    def take(self, limit: int) -> list[str]:
        """Remove and return the next ids. After the last one follow those that were put back."""
        if not self._is_reading:
            self._unread.seek(0)
            self._is_reading = True
        keys = self._read(limit)
        if not keys and self._put_back.tell():
            self._unread, self._put_back = self._put_back, _new_file()
            self._unread.seek(0)
            keys = self._read(limit)
        return keys

    def put_back(self, keys: Iterable[str]) -> None:
        """Return ids that `take` removed."""
        _write(self._put_back, keys)

    def _read(self, limit: int) -> list[str]:
        return [line.decode().rstrip("\n") for line in islice(self._unread, limit)]


def _write(file: SpooledTemporaryFile[bytes], keys: Iterable[str]) -> None:
    file.writelines(f"{key}\n".encode() for key in keys)


def _new_file() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(max_size=MAX_MEMORY)


@dataclass(slots=True)
class Endings:
    """How many requests ended with each outcome, and the first failures by id (at most MAX_KEPT_FAILURES)."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    failures: list[tuple[str, SyncOutcome]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """The number of requests that did not end with a stored asset."""
        return self.counts.total() - self.counts[Outcome.OK]

    def add(self, key: str, outcome: SyncOutcome) -> None:
        self.counts[outcome.outcome] += 1
        if outcome.outcome is not Outcome.OK and len(self.failures) < MAX_KEPT_FAILURES:
            self.failures.append((key, outcome))


def wait(installation: runtime.Runtime, source: str, awaited: Awaited, timeout: float | None) -> Endings:
    """Return how each request ended. Requests that are still due after `timeout` seconds count as `WAITING`; None waits forever.

    Workers fetch roughly in the order of the requests. So the oldest requests are queried repeatedly, and later ones only while
    none of the oldest ends.
    """
    endings = Endings()
    started_at = oldest_moved_at = time.monotonic()
    hint_printed = False
    oldest = dict.fromkeys(awaited.take(CHUNK_SIZE))
    with Bar("fetched", total=awaited.count) as bar:
        while oldest and (timeout is None or time.monotonic() - started_at < timeout):
            ended = _remove_ended(installation, source, oldest, endings)
            if ended:
                oldest_moved_at = time.monotonic()
            elif time.monotonic() - oldest_moved_at > STUCK_AFTER:
                later = dict.fromkeys(awaited.take(CHUNK_SIZE))
                ended = _remove_ended(installation, source, later, endings)
                awaited.put_back(later)
            bar.reach(endings.counts.total())
            if not ended and not hint_printed and time.monotonic() - max(started_at, bar.moved_at) > HINT_AFTER:
                hint_printed = True
                _print_hint(installation, awaited.count - endings.counts.total())
            if len(oldest) < CHUNK_SIZE / 2:
                oldest |= dict.fromkeys(awaited.take(CHUNK_SIZE))
            if not ended:
                time.sleep(POLL_INTERVAL)
    for key in _remaining(oldest, awaited):
        endings.add(key, SyncOutcome(Outcome.WAITING))
    if endings.counts[Outcome.WAITING] and not hint_printed:
        _print_hint(installation, endings.counts[Outcome.WAITING])
    return endings


def _remove_ended(installation: runtime.Runtime, source: str, waiting: dict[str, None], endings: Endings) -> int:
    """Move requests that have ended from `waiting` to `endings`. Return how many."""
    count = 0
    for chunk in _chunks(list(waiting)):
        with installation.store.reading() as connection:
            ended = outcomes(connection, source, chunk)
        for key, outcome in ended.items():
            endings.add(key, outcome)
            del waiting[key]
        count += len(ended)
    return count


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + CHUNK_SIZE] for start in range(0, len(keys), CHUNK_SIZE))


def _remaining(oldest: Iterable[str], awaited: Awaited) -> Iterator[str]:
    yield from oldest
    while keys := awaited.take(CHUNK_SIZE):
        yield from keys


def _print_hint(installation: runtime.Runtime, waiting: int) -> None:
    problem = first_problem(installation)
    print_info(f"vodsync: {problem or f'still waiting for {waiting} media; Ctrl-C ends the wait, the requests remain'}")
