"""Make the standard streams safe: a closed or full one ends in a sentence, and no caller waits for the reader of stderr."""

from __future__ import annotations

import atexit
import errno
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO, cast

MAX_WAITING = 1 << 20  # bytes that wait for the reader of stderr; further ones are dropped
MAX_WRITE = 4096  # bytes written at once. A pipe does not mix such a write with those of other processes
PATIENCE = 0.2  # seconds that a caller waits until its line is written, until the reader counts as stalled
EXIT_TIMEOUT = 1.0  # seconds that the end of the process waits for the reader

_STANDARD = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))


class OutputError(Exception):
    """Stdout cannot be written. `is_closed` is True if the program that read it has ended, which is no error of ours."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror}; send the output to another place")
        self.is_closed = error.errno == errno.EPIPE


def prepare() -> None:
    """Replace closed standard streams, and let a background thread write stderr. Call it before any file is opened."""
    for number, (name, flags, mode) in enumerate(_STANDARD):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file, perhaps the database, gets this number, and messages would be written into it. The system
            # returns the lowest free number. A closed stdout cannot be written, so that a lost answer is an error.
            os.open(os.devnull, flags)
        if getattr(sys, name) is None:
            # closefd: this object is replaced, and the next file, perhaps the database, would get the number of its descriptor.
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - open until the process ends
    # Tests replace the stream with one that they read.
    if type(sys.stderr) is io.TextIOWrapper and sys.stderr is sys.__stderr__:
        sys.stderr = cast(TextIO, BackgroundStream(sys.stderr))


def report_dropped_with(report: Callable[[int], object]) -> None:
    """Call `report` with the number of dropped texts when the reader of stderr goes on."""
    if isinstance(sys.stderr, BackgroundStream):
        sys.stderr.report_dropped = report


class CheckedStdout(io.TextIOWrapper):
    """Stdout that raises OutputError if it cannot be written. A character that it cannot show is escaped."""

    @classmethod
    def install(cls) -> None:
        """Replace `sys.stdout`."""
        stream = sys.stdout
        if type(stream) is io.TextIOWrapper:
            buffer = open(stream.fileno(), "wb", closefd=False)  # noqa: SIM115 - open until the process ends
            sys.stdout = cls(buffer, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise self._give_up(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._give_up(error) from error

    def _give_up(self, error: OSError) -> OutputError:
        # Python writes what is still buffered at exit, and would print a second error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        return OutputError(error)


class BackgroundStream(io.TextIOBase):
    """A text stream that its own daemon thread writes, so that a reader that stands still stops nothing.

    `flush` waits until the text is written, so nothing is missing before a crash. If that takes longer than PATIENCE, the reader is
    stalled, and no caller waits until it has read everything. If too much is waiting, texts are dropped and counted.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._descriptor = stream, stream.fileno()
        self.report_dropped: Callable[[int], object] = self._print_dropped
        self._is_closed = False
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._close_at_exit)

    def _reset(self) -> None:
        # Reentrant, because a signal handler may write while its thread has the lock.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        #: Texts accepted and texts written or lost since the start. The difference is waiting.
        self._accepted, self._done = 0, 0
        self._is_stalled = False
        self._thread: threading.Thread | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]  # io declares an attribute
        return self._stream.encoding

    @property
    def errors(self) -> str:  # type: ignore[override]  # io declares an attribute
        return "backslashreplace"

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        content = text.encode(self.encoding, "backslashreplace") if isinstance(text, str) else None
        if content is None:
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._changed:
            if self._is_closed:
                if not self._waiting and select.select([], [self._descriptor], [], 0)[1]:
                    _write_all(self._descriptor, content)
            elif self._size + len(content) > MAX_WAITING:
                self._dropped += 1
            elif content:
                self._waiting.append(content)
                self._size += len(content)
                self._accepted += 1
                self._start_writing()
        return len(text)

    def flush(self) -> None:
        with self._changed:
            if self._is_stalled or self._is_closed or self._thread is threading.current_thread():
                return
            self._is_stalled = not self._wait_until_written(PATIENCE)

    def _wait_until_written(self, timeout: float) -> bool:
        accepted = self._accepted
        return self._changed.wait_for(lambda: self._done >= accepted, timeout)

    def _start_writing(self) -> None:
        self._changed.notify_all()
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)
            self._thread.start()
        except (RuntimeError, MemoryError):
            # No thread can be started at the end of the process, or under a limit.
            self._thread = None
            if select.select([], [self._descriptor], [], 0)[1]:
                self._write_waiting()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            self._write_waiting()

    def _write_waiting(self) -> None:
        """Write the oldest texts, as many as fit into one write, and report dropped ones once there is room again."""
        with self._changed:
            texts: list[bytes] = []
            size = 0
            for text in self._waiting:
                size += len(text)
                if texts and size > MAX_WRITE:
                    break
                texts.append(text)
        is_written = _write_all(self._descriptor, b"".join(texts))
        with self._changed:
            for text in texts:
                self._waiting.popleft()
                self._size -= len(text)
            self._done += len(texts)
            self._is_stalled = self._is_stalled and bool(self._waiting)
            if not is_written:
                self._dropped += len(texts)
            dropped = self._dropped if is_written and self._size <= MAX_WAITING // 2 else 0
            self._dropped -= dropped
            self._changed.notify_all()
        if dropped:
            self.report_dropped(dropped)

    def _print_dropped(self, count: int) -> None:
        self.write(f"vodsync: {count} messages were dropped, because stderr was not read\n")

    def _close_at_exit(self) -> None:
        with self._changed:
            self._wait_until_written(EXIT_TIMEOUT)
            # Python stops daemon threads now. What follows is written by its caller.
            self._is_closed = True


def _write_all(descriptor: int, content: bytes) -> bool:
    """Write everything, however long the reader takes. Return False if the stream cannot be written."""
    while content:
        try:
            content = content[os.write(descriptor, content) :]
        except BlockingIOError:
            # Another process that shares the stream has made it non-blocking.
            select.select([], [descriptor], [])
        except OSError:
            return False
    return True
