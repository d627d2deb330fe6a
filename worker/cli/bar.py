"""Show on stderr how many of something are done."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from worker.cli.output import print_info

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_INTERVAL = 10.0  # seconds between two lines if stderr is not a terminal


class Bar:
    """A progress bar at a terminal, and a line every ten seconds if stderr is not a terminal. Use it in a `with` statement."""

    def __init__(self, title: str, *, total: int | None = None) -> None:
        self._title, self._total = title, total
        self._count = 0
        self._progress = counting_progress() if sys.stderr.isatty() else None
        self._task = self._progress.add_task(title, total=total) if self._progress else None
        #: When the count changed last, by the monotonic clock.
        self.moved_at = self._line_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._progress:
            self._progress.stop()

    def reach(self, count: int) -> None:
        """Show that `count` are done."""
        now = time.monotonic()
        if count != self._count:
            self._count, self.moved_at = count, now
        if self._progress and self._task is not None:
            self._progress.update(self._task, completed=count)
        elif now - self._line_at > LINE_INTERVAL:
            self._line_at = now
            print_info(f"{self._title}: {count}" + (f" of {self._total}" if self._total is not None else ""))


def counting_progress(*, rate: bool = False) -> Progress:
    """Return Rich's progress display on stderr: title, bar, counts and times; with `rate` also the field `rate` of the task."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    rates = [TextColumn("{task.fields[rate]}")] if rate else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *rates)
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True, highlight=False))
