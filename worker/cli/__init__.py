"""Run the command `vodsync`.

Importing this package imports no other module, and each verb imports what it needs when it runs. So `--version`, `--help` and
`status` answer without loading Celery, the web server or the SDK.
"""

from __future__ import annotations

import signal
import sys

from worker import __version__, standard_streams
from worker.process_signals import ignore_user_signals
from worker.standard_streams import CheckedStdout, OutputError


def main() -> None:
    """Run the verb named on the command line, then exit with one of the codes of contract 4.1."""
    standard_streams.prepare()
    ignore_user_signals()
    CheckedStdout.install()
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except OutputError as error:
        if error.is_closed:
            sys.exit(128 + signal.SIGPIPE)
        print(f"vodsync: {error}", file=sys.stderr)
        sys.exit(1)


def _run() -> None:
    if sys.argv[1:] == ["--version"]:
        print(__version__)
        return
    from worker.cli.application import run

    run()
