"""Ids as people give them: words, a file, or stdin, however long."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import typer

from worker.cli.output import Exit, print_error

_BLOCK = 1 << 16

#: No id is longer; a file that is no list of ids need not fit into memory to be found out.
_LONGEST = 1000

_MARK = b"\xef\xbb\xbf"


def read_ids(words: list[str], file: Path | None) -> Iterator[str]:
    """The ids in `words`, in `file`, or on stdin where the only word is `-`; separated by white space or commas."""
    if file is None and words != ["-"]:
        yield from words
        return
    if file is None:
        yield from _words(sys.stdin.buffer)
        return
    try:
        with file.open("rb") as opened:
            yield from _words(opened)
    except OSError as error:
        raise typer.Exit(print_error(f"cannot read {file}: {error.strerror}", Exit.USAGE)) from None


def _words(stream: BinaryIO) -> Iterator[str]:
    begun, first = b"", True
    while block := stream.read(_BLOCK):
        if first:
            block, first = block.removeprefix(_MARK), False
        # The last word may go on in the next block.
        *whole, begun = (begun + block).translate(_BLANKS).split(b" ")
        yield from (word.decode(errors="replace") for word in whole if word)
        begun = begun[:_LONGEST]
    if begun:
        yield begun.decode(errors="replace")


_BLANKS = bytes.maketrans(b",\t\n\r\v\f", b"      ")
