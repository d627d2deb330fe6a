"""Run the command `vodsync`.

Importing this package imports no other module, and each verb imports what it needs when it runs. So `--version`, `--help` and
`status` answer without loading Celery, the web server or the SDK.
"""

from __future__ import annotations

import io
import os
import sys

from worker import __version__


def main() -> None:
    """Run the verb named on the command line, then exit with one of the codes of contract 4.1."""
    # A character that the terminal cannot show is escaped. The default is to raise UnicodeEncodeError.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if sys.argv[1:] == ["--version"]:
            print(__version__, flush=True)
            return
        from worker.cli.application import run

        run()
    except BrokenPipeError:
        # The program that reads our output, such as `head`, has closed the pipe. Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
