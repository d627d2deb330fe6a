"""Print a table on stdout: with Rich at a terminal, as aligned plain text elsewhere."""

from __future__ import annotations

import sys
import unicodedata

from worker.cli.output import printable

#: Spaces between two columns of plain text.
_GAP = "  "


class Table:
    """Rows of values. None is printed as `-`, control characters are escaped."""

    def __init__(self, *columns: str, title: str | None = None) -> None:
        self._columns = columns
        self._title = title
        self._rows: list[list[str]] = []

    def add(self, *values: object) -> None:
        """Append a row with one value for each column."""
        self._rows.append(["-" if value is None else printable(value) for value in values])

    def print(self) -> None:
        """Print the table. At a terminal long values are folded; in plain text each row is one line."""
        if sys.stdout.isatty():
            self._print_with_rich()
        else:
            self._print_plain()

    def _print_with_rich(self) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(title=self._title and escape(self._title), title_justify="left", header_style="bold")
        for column in self._columns:
            # A media id on one line can be copied.
            table.add_column(column, overflow="fold", no_wrap=column == "media_id")
        for row in self._rows:
            table.add_row(*map(escape, row))
        Console(highlight=False, soft_wrap=True).print(table)

    def _print_plain(self) -> None:
        lines = [list(self._columns), *self._rows]
        widths = [max(map(display_width, column)) for column in zip(*lines, strict=True)]
        if self._title:
            print(self._title)
        for line in lines:
            print(_GAP.join(map(_padded, line, widths)).rstrip())


def display_width(text: str) -> int:
    """Return how many terminal columns a text takes. Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shorten(text: str, width: int) -> str:
    """Return `text` cut to at most `width` terminal columns, with … at the end if something is missing."""
    if display_width(text) <= width:
        return text
    while display_width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))
