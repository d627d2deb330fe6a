"""How a verb talks: JSON or a table on stdout, sentences on stderr."""

from __future__ import annotations

import enum
import sys
from typing import Any

import msgspec
from rich.console import Console
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


def say(text: str) -> None:
    """One sentence for people, on stderr."""
    stderr.print(text, markup=False)


def complain(error: object, code: Exit) -> Exit:
    say(f"vodsync: {redactor.text(str(error))}")
    return code


def table(title: str | None, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def cell(value: object) -> str:
    """A value as a table shows it; control characters from outside never reach the terminal."""
    if value is None:
        return "-"
    text = str(value)
    # The zero-width joiner holds emoji together.
    shown = "".join(c if c.isprintable() or c == "\u200d" else repr(c)[1:-1] for c in text)
    return shown.replace("[", "\\[")
