"""Waiting for media that were asked for, however many, in little memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from tempfile import SpooledTemporaryFile

from worker import runtime
from worker.cli.context import first_problem
from worker.cli.output import Bar, print_info
from worker.store.inbox.outcomes import Outcome, SyncOutcome, outcomes

#: Ids that are looked up at once; failures that are kept to be named.
_CHUNK, _KEPT = 1000, 10_000

#: Seconds between two looks; without progress until others are looked at; and until the installation's complaints are told.
_LOOK, _STUCK, _WONDER = 0.2, 2.0, 5.0


class Awaited:
    """Ids in the order in which they were asked for. A million of them is a file of 30 MB, and hardly any memory."""

    def __init__(self) -> None:
        self.count = 0
        self._unread, self._again = _file(), _file()
        self._reading = False

    def add(self, keys: Sequence[str]) -> None:
        """To be called before the first `take`."""
        self.count += len(keys)
        _write(self._unread, keys)

    def take(self, limit: int) -> list[str]:
        """The next ones; after the last come those that were put back."""
        if not self._reading:
            self._unread.seek(0)
            self._reading = True
        taken = self._read(limit)
        if not taken and self._again.tell():
            self._unread, self._again = self._again, _file()
            self._unread.seek(0)
            taken = self._read(limit)
        return taken

    def put_back(self, keys: Iterable[str]) -> None:
        _write(self._again, keys)

    def _read(self, limit: int) -> list[str]:
        return [line.decode().rstrip("\n") for line in islice(self._unread, limit)]


def _write(file: SpooledTemporaryFile[bytes], keys: Iterable[str]) -> None:
    file.writelines(f"{key}\n".encode() for key in keys)


def _file() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(max_size=1 << 20)


@dataclass(slots=True)
class Endings:
    """How many ended in which way; of those that did not arrive, the first `_KEPT` by name."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    failures: list[tuple[str, SyncOutcome]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return self.counts.total() - self.counts[Outcome.OK]

    def add(self, key: str, ended: SyncOutcome) -> None:
        self.counts[ended.outcome] += 1
        if ended.outcome is not Outcome.OK and len(self.failures) < _KEPT:
            self.failures.append((key, ended))


def wait(here: runtime.Runtime, source: str, awaited: Awaited, timeout: float | None) -> Endings:
    """How each of `awaited` ended; those that are still due after `timeout` seconds are `WAITING`.

    Workers fetch roughly in the order in which was asked. So the oldest are looked up again and again, and others only while none
    of those moves.
    """
    endings = Endings()
    began = oldest_moved_at = time.monotonic()
    wondered = False
    oldest = dict.fromkeys(awaited.take(_CHUNK))
    with Bar("fetched", total=awaited.count) as bar:
        while oldest and (timeout is None or time.monotonic() - began < timeout):
            moved = _look(here, source, oldest, endings)
            if moved:
                oldest_moved_at = time.monotonic()
            elif time.monotonic() - oldest_moved_at > _STUCK:
                others = dict.fromkeys(awaited.take(_CHUNK))
                moved = _look(here, source, others, endings)
                awaited.put_back(others)
            bar.reach(endings.counts.total())
            if not moved and not wondered and time.monotonic() - max(began, bar.moved_at) > _WONDER:
                wondered = True
                _wonder(here, awaited.count - endings.counts.total())
            if len(oldest) < _CHUNK / 2:
                oldest |= dict.fromkeys(awaited.take(_CHUNK))
            if not moved:
                time.sleep(_LOOK)
    for key in _rest(oldest, awaited):
        endings.add(key, SyncOutcome(Outcome.WAITING))
    if endings.counts[Outcome.WAITING] and not wondered:
        _wonder(here, endings.counts[Outcome.WAITING])
    return endings


def _look(here: runtime.Runtime, source: str, waiting: dict[str, None], endings: Endings) -> int:
    """Takes those that have ended out of `waiting`; gives how many."""
    found = 0
    for chunk in _chunks(list(waiting)):
        with here.store.reading() as connection:
            ended = outcomes(connection, source, chunk)
        for key, each in ended.items():
            endings.add(key, each)
            del waiting[key]
        found += len(ended)
    return found


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))


def _rest(oldest: Iterable[str], awaited: Awaited) -> Iterator[str]:
    yield from oldest
    while keys := awaited.take(_CHUNK):
        yield from keys


def _wonder(here: runtime.Runtime, waiting: int) -> None:
    print_info(f"vodsync: {first_problem(here) or f'still waiting for {waiting}; Ctrl-C stops waiting, the requests stay'}")
