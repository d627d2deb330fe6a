"""Stderr is written by a thread of its own: nobody waits for its reader, nothing is missing before a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import UnsupportedOperation
from pathlib import Path

import pytest

from worker import logs, standard_streams
from worker.standard_streams import MAX_WAITING, BackgroundStream

PIPE_SIZE = 1 << 16  # bytes


class Pipe:
    """A pipe, and the stream that writes it. Nobody reads it until `read_all` is called."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self._file = open(writer, "w", encoding="utf-8")  # noqa: SIM115 - closed below
        self.stream = BackgroundStream(self._file)

    def available(self) -> str:
        """Return what can be read at once."""
        os.set_blocking(self.reader, False)
        with suppress(BlockingIOError):
            return os.read(self.reader, PIPE_SIZE).decode()
        return ""

    def read_until(self, end: str) -> str:
        """Read until the text ends with `end`."""
        os.set_blocking(self.reader, True)
        text = ""
        while not text.endswith(end):
            text += os.read(self.reader, PIPE_SIZE).decode()
        return text

    def close(self) -> None:
        self._file.close()
        with suppress(OSError):
            os.close(self.reader)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    opened = Pipe()
    yield opened
    opened.close()


def test_a_flushed_line_is_written_when_flush_returns(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_streams, "PATIENCE", 60.0)

    print("one", "zwei ä", file=pipe.stream, flush=True)

    assert pipe.available() == "one zwei ä\n"


def test_nobody_waits_for_a_reader_that_stands_still_and_dropped_lines_are_counted(pipe: Pipe) -> None:
    line = "x" * 1023 + "\n"
    count = 2 * MAX_WAITING // len(line)

    for _ in range(count):
        pipe.stream.write(line)
        pipe.stream.flush()
    pipe.stream.report_dropped = lambda dropped: pipe.stream.write(f"{dropped} dropped\n")
    text = pipe.read_until("dropped\n")

    written = text.count(line)
    assert PIPE_SIZE + MAX_WAITING - 2 * len(line) <= written * len(line) <= PIPE_SIZE + MAX_WAITING + 4 * len(line)
    assert text.splitlines()[-1] == f"{count - written} dropped"


def test_lines_wait_again_for_their_reader_once_it_has_read_everything(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2 * PIPE_SIZE // 1024):
        pipe.stream.write("x" * 1024)
    pipe.stream.flush()
    pipe.stream.write("last")
    pipe.read_until("last")
    with pipe.stream._changed:
        assert pipe.stream._changed.wait_for(lambda: not pipe.stream._is_stalled, 60.0)
    monkeypatch.setattr(standard_streams, "PATIENCE", 60.0)

    pipe.stream.write("after\n")
    pipe.stream.flush()

    assert pipe.available() == "after\n"


def test_an_ended_reader_is_no_error(pipe: Pipe) -> None:
    os.close(pipe.reader)

    for _ in range(3):
        pipe.stream.write("nobody reads this\n")
        pipe.stream.flush()

    assert "stderr" in {thread.name for thread in threading.enumerate()}


def test_a_signal_handler_may_write_while_its_thread_writes(pipe: Pipe) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: print("handler", file=pipe.stream, flush=True))
    try:
        with pipe.stream._changed:
            signal.raise_signal(signal.SIGUSR1)
            pipe.stream.write("main\n")
    finally:
        signal.signal(signal.SIGUSR1, before)

    pipe.stream.flush()
    assert pipe.read_until("main\n").splitlines() == ["handler", "main"]


def test_a_forked_child_writes_its_own_lines_only(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_streams, "PATIENCE", 60.0)
    with pipe.stream._changed:
        # The writer cannot take this line before the fork.
        pipe.stream.write("parent\n")
        child = os.fork()
        if not child:
            pipe.stream.write("child\n")
            pipe.stream.flush()
            os._exit(0)
    os.waitpid(child, 0)
    pipe.stream.flush()

    assert sorted(pipe.available().splitlines()) == ["child", "parent"]


def test_only_text_can_be_written(pipe: Pipe) -> None:
    with pytest.raises(TypeError):
        pipe.stream.write(b"bytes")  # type: ignore[arg-type]  # the test is about a wrong type
    assert (pipe.stream.writable(), pipe.stream.isatty()) == (True, False)
    with pytest.raises(UnsupportedOperation):
        pipe.stream.read()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("sys.exit(4)", 4),
        ("atexit.register(log.info, 'very last')", 0),
        ("raise ValueError('traceback')", 1),
    ],
)
def test_no_line_before_the_end_of_a_process_is_missing(end: str, code: int) -> None:
    program = f"""
import atexit, os, signal, sys
from worker import logs, standard_streams
logs.configure()
standard_streams.PATIENCE = 60.0
log = logs.get("test")
for number in range(3):
    log.info("line", number=number)
{end}
"""

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert ended.returncode == code
    lines = ended.stderr.splitlines()
    assert ['"number": 0' in lines[0], '"number": 1' in lines[1], '"number": 2' in lines[2]] == [True] * 3
    assert ("very last" in ended.stderr, "ValueError: traceback" in ended.stderr) == ("atexit" in end, "raise" in end)


def test_a_process_ends_although_its_stderr_is_not_read() -> None:
    program = """
import sys
from worker import logs
logs.configure()
for number in range(500):
    logs.get("test").info("line", number=number, text="x" * 200)
sys.stdout.write("done")
"""
    reader, writer = os.pipe()

    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, text=True, timeout=120)

    os.close(writer)
    os.close(reader)
    assert (ended.returncode, ended.stdout) == (0, "done")


def test_the_number_of_dropped_lines_is_logged_as_a_line(tmp_path: Path) -> None:
    program = """
import os, sys
from worker import logs
logs.configure()
for number in range(2000):
    logs.get("test").info("line", number=number, text="x" * 1000)
sys.stdout.write("done")
sys.stdout.flush()
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    assert process.stdout.read(4) == b"done"

    lines: list[bytes] = []
    while not lines or b"dropped" not in lines[-1]:
        lines.append(process.stderr.readline())
    process.stdin.close()

    assert process.wait() == 0
    process.stderr.close()
    process.stdout.close()
    assert f'"count": {2000 - (len(lines) - 1)}'.encode() in lines[-1]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_standard_stream_is_not_replaced_by_the_next_file(tmp_path: Path, number: int) -> None:
    program = """
import os, sys
from worker import logs
logs.configure()
data = open("data", "w")
assert data.fileno() > 2
logs.get("test").error("a line")
print("text", file=sys.stderr)
assert sys.stdin.read() == ""
"""
    command = f"exec {sys.executable} -c '{program}' {number}>&-"

    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "data").read_text() == ""
    assert ("a line" in ended.stderr) == (number != 2)


def test_a_test_that_reads_stderr_still_can(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr

    standard_streams.prepare()
    logs.get("test")

    assert sys.stderr is before
