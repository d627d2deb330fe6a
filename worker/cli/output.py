"""How a verb talks: JSON or a table on stdout, sentences on stderr."""

from __future__ import annotations

import enum
import sys
import time
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from worker.logs import redactor


class Exit(enum.IntEnum):
    """The promise to scripts (DESIGN 2.3)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4


stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

_encoder = msgspec.json.Encoder(decimal_format="number")


def print_json(value: Any) -> None:
    sys.stdout.write(_format(value) + "\n")


def _format(value: Any) -> str:
    return msgspec.json.format(_encoder.encode(value), indent=2).decode()


def print_info(text: str) -> None:
    """One sentence for people, on stderr."""
    stderr.print(text, markup=False)


def counted(count: int, thing: str) -> str:
    """`1 dead letter`, `2 dead letters`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def print_error(error: object, code: Exit) -> Exit:
    print_info(f"vodsync: {redactor.text(str(error))}")
    return code


def table(title: str | None, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        # An id is there to be copied.
        made.add_column(column, overflow="fold", no_wrap=column == "media_id")
    return made


def cell(value: object) -> str:
    """A value as a table shows it; control characters from outside never reach the terminal."""
    if value is None:
        return "-"
    text = str(value)
    # The zero-width joiner holds emoji together.
    shown = "".join(c if c.isprintable() or c == "\u200d" else repr(c)[1:-1] for c in text)
    return shown.replace("[", "\\[")


class Bar:
    """How far a verb is, on stderr: a bar at a terminal, a line every ten seconds elsewhere."""

    _LINE = 10.0

    def __init__(self, what: str, *, total: int | None = None) -> None:
        self._what, self._total = what, total
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=stderr, disable=not stderr.is_terminal)
        self._task = self._progress.add_task(what, total=total)
        self._reached = 0
        #: When it last moved, by the monotonic clock.
        self.moved_at = self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def reach(self, count: int) -> None:
        now = time.monotonic()
        if count != self._reached:
            self._reached, self.moved_at = count, now
        self._progress.update(self._task, completed=count)
        if self._progress.disable and now - self._said_at > self._LINE:
            self._said_at = now
            print_info(f"{self._what}: {count}" + (f" of {self._total}" if self._total is not None else ""))
