"""Print JSON on stdout and messages on stderr."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable

import msgspec

from worker.core.errors import describe_error
from worker.logs import redactor


class Exit(enum.IntEnum):
    """Exit codes (contract 4.1)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4


_encoder = msgspec.json.Encoder(decimal_format="number")


def print_json(value: object) -> None:
    """Print `value` as indented JSON on stdout; decimals as numbers."""
    sys.stdout.write(msgspec.json.format(_encoder.encode(value), indent=2).decode() + "\n")


def print_json_line(value: object) -> None:
    """Print `value` as one line of JSON on stdout, at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_info(text: str) -> None:
    """Print a message for people on stderr."""
    # One write, so that other threads and processes cannot write between the text and the line feed.
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_error(error: object, code: Exit) -> Exit:
    """Print an error on stderr, without secrets. Return `code`, for `raise typer.Exit(print_error(...))`."""
    sentence = describe_error(error) if isinstance(error, BaseException) else str(error)
    print_info(f"vodsync: {redactor.text(sentence)}")
    return code


def count_of(count: int, thing: str) -> str:
    """Return `1 dead letter` or `2 dead letters`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def counters_text(counters: Iterable[tuple[str, int]]) -> str:
    """Return `listed: 20, requested: 3` for people; `nothing yet` if there is no counter."""
    return ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counters) or "nothing yet"


def printable(value: object) -> str:
    """Return `value` as text for a terminal. Control characters, which may come from outside, are escaped."""
    # The zero-width joiner holds the parts of an emoji together.
    return "".join(c if c.isprintable() or c == "\u200d" else repr(c)[1:-1] for c in str(value))
