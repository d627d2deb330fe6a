"""Read media ids from arguments, a file or stdin, in constant memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import typer

from worker.cli.output import Exit, print_error

BLOCK_SIZE = 1 << 16  # bytes per read

#: A longer word is cut, so that a file without white space, such as a video, is not read into memory whole. Ids have at
#: most 64 characters.
MAX_WORD_LENGTH = 1000  # bytes

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SEPARATORS_TO_SPACES = bytes.maketrans(b",\t\n\r\v\f", b"      ")


def read_ids(words: list[str], file: Path | None) -> Iterator[str]:
    """Yield the ids in `file`, on stdin if the only word is `-`, or else `words`.

    Ids in a file or on stdin are separated by white space or commas. Exits with code 2 if the file cannot be read.
    """
    if file is None and words != ["-"]:
        yield from words
        return
    if file is None:
        yield from _words(sys.stdin.buffer)
        return
    try:
        with file.open("rb") as stream:
            yield from _words(stream)
    except OSError as error:
        raise typer.Exit(print_error(f"cannot read {file}: {error.strerror}", Exit.USAGE)) from None


def _words(stream: BinaryIO) -> Iterator[str]:
    unfinished, is_first = b"", True
    while block := stream.read(BLOCK_SIZE):
        if is_first:
            block, is_first = block.removeprefix(_BYTE_ORDER_MARK), False
        # The last word of a block may continue in the next one.
        *words, unfinished = (unfinished + block).translate(_SEPARATORS_TO_SPACES).split(b" ")
        yield from (word.decode(errors="replace") for word in words if word)
        unfinished = unfinished[:MAX_WORD_LENGTH]
    if unfinished:
        yield unfinished.decode(errors="replace")
